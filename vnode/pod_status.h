// What the local cluster is told about a pod: a pure function of the local object, what the backend reports
// and what this node knows. The rules are the kubelet's (pkg/kubelet/status and kubelet_pods.go,
// kubelet-contract §5.3–5.5).
//
// Conditions are computed here from the container statuses, not copied, so that readiness gates of the local
// pod count and every backend is reported alike. Pure; any thread.
#pragma once

#include <optional>
#include <string>

#include "common/clock.h"
#include "common/json.h"
#include "providers/port/provider.h"

namespace k8sgpu::vnode {

// Our own condition. It is the durable intent of the safety argument: "Unknown" is written before anything is
// created at a backend, "True" once the backend has taken the pod. A pod that says True and is absent from
// the backend has been lost and is never run again.
inline constexpr std::string_view kForwardedCondition = "k8s.gpu/Forwarded";

enum class PodIpPolicy {
    Remote,  // the address that the backend gave, as other nodes do
    None,    // no address: Services skip the pod
};

struct StatusFacts {
    std::string host_ip;
    PodIpPolicy pod_ip = PodIpPolicy::Remote;
    WallTime now;
};

// Why the pod is where it is, beyond what the backend reports. At most one of the first three is set.
struct PodVerdict {
    std::optional<providers::Refused> refused;  // → Failed, nothing ran
    std::optional<providers::Blocked> blocked;  // → Pending, containers wait with this reason
    std::optional<providers::Refused> lost;     // → Failed with DisruptionTarget: the copy vanished
    std::string forwarded = "Unknown";          // status of our condition: Unknown | True | False
    std::string forwarded_reason = "Forwarding";
    std::string forwarded_message;
};

// The wanted v1.PodStatus, complete in the fields that a kubelet owns. `local` is the API object (its status
// is the source of start time, transition times and counts that must not go back); `observed` may be null.
Json compose_status(const Json& local, const providers::ObservedPod* observed, const PodVerdict& verdict,
                    const StatusFacts& facts);

// The strategic merge patch that turns `current` (status of the API object) into `wanted`, or null when
// nothing that we own differs. Carries the UID, so that a successor of the same name is refused with a
// conflict. Conditions of others are never in it.
Json status_patch(const Json& current, const Json& wanted, const std::string& uid);

// True when everything in `patch` was already in `sent`: the server took the write and did not keep these
// fields.
bool patch_within(const Json& patch, const Json& sent);

bool is_terminal_phase(const std::string& phase);

}  // namespace k8sgpu::vnode
