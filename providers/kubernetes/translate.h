// From the local pod to the pod that is created in the tenant namespace, with a line for everything that is
// not carried over as it is. What happens to which field is said by the table in field_table.h; fields that
// the table does not know, such as those of a future Kubernetes, pass through. Pure; any thread.
#pragma once

#include <string>
#include <vector>

#include "providers/kubernetes/names.h"
#include "providers/port/provider.h"

namespace k8sgpu::providers::kubernetes {

enum class Treatment { Kept, Rewritten, Dropped, Refused };

std::string_view to_string(Treatment treatment);

struct Change {
    Treatment treatment = Treatment::Kept;
    std::string field;  // "spec.volumes[0].hostPath"
    std::string note;   // why, and for a refusal the way out
    // Worth an Event on the pod: its owner may be surprised. Most changes are what forwarding means.
    bool notable = false;
};

struct TranslateOptions {
    std::string remote_namespace = "gpu";
    std::string tenant_name;  // becomes a label there; may be empty
    OwnerMark owner;
    // "same" keeps the pod's class, "" sets none, anything else is the remote class for every pod.
    std::string runtime_class;
    // What the pod is told as status.hostIP(s) when its own status does not say yet.
    std::vector<std::string> host_ips;
};

struct Translation {
    Json pod;                      // complete, ready to be created; meaningless with refusals
    std::vector<Change> changes;   // Rewritten and Dropped
    std::vector<Change> refusals;  // not empty: the pod can never run there
};

Translation translate(const DesiredPod& desired, const TranslateOptions& options);

// The local pod's ephemeral containers, as they are added to a copy that exists already: `pod` is their list.
// One that is refused stays out of the list, so that it hinders neither the pod nor the others.
Translation translate_ephemeral(const DesiredPod& desired, const TranslateOptions& options);

// All refusals in one, for Provider::check(); nullopt when there are none.
std::optional<Refused> refusal_of(const Translation& translation);

// The labels and annotations of the local pod that are carried along: all but ours and the kubelet's own.
bool is_carried_key(std::string_view key);

}  // namespace k8sgpu::providers::kubernetes
