// From a pod of the API to what a shim runs: environment resolved, command expanded, users and GPUs decided.
// Pure but for the lookup it is given; any thread.
#pragma once

#include <variant>
#include <vector>

#include "providers/port/environment.h"
#include "providers/process/identity.h"
#include "providers/process/paths.h"

namespace k8sgpu::providers::process {

inline constexpr const char* kGpuResource = "nvidia.com/gpu";

// Every process of a pod carries these, so that it can be found after the shim has died.
inline constexpr const char* kPodMark = "K8SGPU_POD_UID";
inline constexpr const char* kContainerMark = "K8SGPU_CONTAINER";

struct PrepareFacts {
    const NodeFacts& node;
    const HostUser& user;
    const PodPaths& paths;
    ShimLimits limits;
    bool offers_gpus = false;    // then containers without any are shown none
    std::vector<int> free_gpus;  // indices that no other pod holds
};

using Prepared = std::variant<PodIntent, Blocked, Refused>;

// The pod has passed check_pod(). Errors: those of the lookup.
Result<Prepared> prepare(const DesiredPod& desired, const PrepareFacts& facts, const ObjectLookup& lookup);

}  // namespace k8sgpu::providers::process
