// The query of GET /containerLogs, decoded and checked in the kubelet's order and with its texts
// (kubelet server.go getContainerLogs, v1.PodLogOptions validation). Pure; any thread.
#pragma once

#include "common/result.h"
#include "kubelet_api/query.h"
#include "providers/port/logs.h"

namespace k8sgpu::kubelet_api {

// Pod and container stay empty. Errors carry http_status 400 or 422; the message is the body.
Result<providers::LogRequest> decode_log_query(const Query& query);

}  // namespace k8sgpu::kubelet_api
