// The Events that a kubelet would have written between two statuses of a pod (kubelet-contract §5.11). Pure.
#pragma once

#include <string>
#include <vector>

#include "common/json.h"
#include "common/pod_id.h"

namespace k8sgpu::providers::process {

struct PodEvent {
    std::string type, reason, message;
    bool operator==(const PodEvent&) const = default;
};

// `was_stopping`, `stops`: whether the end of the pod had been ordered before and is now.
std::vector<PodEvent> events_between(const PodId& pod, const Json& before, const Json& after,
                                     bool was_stopping, bool stops);

}  // namespace k8sgpu::providers::process
