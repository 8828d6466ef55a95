// What the scheduler counts as used on a node: the requests of its pods, as k8s.io/component-helpers/resource
// adds them up (init containers, sidecars, overhead, pod-level resources). Pure; any thread.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "common/json.h"
#include "kube/quantity.h"
#include "kube/reflector.h"

namespace k8sgpu::vnode {

using Requests = std::map<std::string, kube::Quantity>;

// Of one pod; resources that it does not ask for are missing.
Requests pod_requests(const Json& pod);

// Of all pods that have not ended, "pods" being their number. Quantities as the API server writes them.
std::map<std::string, std::string> requests_in_use(const std::vector<kube::ObjectPtr>& pods);

}  // namespace k8sgpu::vnode
