// Reading containers and their states out of a v1.Pod: what logs and exec decide on. Pure; any thread.
#pragma once

#include <string>
#include <string_view>

#include "common/json.h"
#include "common/result.h"

namespace k8sgpu::kubelet_api {

// Regular, init and ephemeral containers count.
bool has_container(const Json& pod, std::string_view container);
// The v1.ContainerStatus, or a null value while there is none.
const Json& container_status(const Json& pod, std::string_view container);
bool is_running(const Json& pod, std::string_view container);

// Whether the container has (had) a run whose log can be shown; Invalid with the kubelet's text for kubectl
// otherwise (kubelet: validateContainerLogStatus).
Result<void> check_log_available(const Json& pod, std::string_view container, bool previous);

}  // namespace k8sgpu::kubelet_api
