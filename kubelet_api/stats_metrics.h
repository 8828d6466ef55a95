// The two scrapes that show what pods use: /metrics/resource (for metrics-server and the HPA) and
// /metrics/cadvisor (for Prometheus; the families that can be measured, with the kubelet's labels). Pure; any
// thread.
#pragma once

#include <string>

#include "kubelet_api/stats_collector.h"

namespace k8sgpu::kubelet_api {

// metrics-server drops a pod of which a container shows exactly 0, so what runs shows a nanosecond and a page
// at least.
std::string resource_metrics(const CollectedStats& stats);

std::string cadvisor_metrics(const CollectedStats& stats);

}  // namespace k8sgpu::kubelet_api
