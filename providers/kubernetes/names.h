// What things of ours are called in the tenant namespace. Every name is computed from the identity of its
// source, so that after any crash the agent finds its own traces by asking for the name. Pure; any thread.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "common/json.h"
#include "common/pod_id.h"
#include "providers/port/local_objects.h"

namespace k8sgpu::providers::kubernetes {

// Whose objects they are: this node of this cluster. `cluster_uid` is the UID of the local kube-system
// namespace, the usual stand-in for a cluster's identity.
struct OwnerMark {
    std::string cluster_uid;
    std::string node_name;
};

// A pod's name may have 253 characters, but the remote kubelet makes a directory <namespace>_<name>_<uid> of
// it, and file names end at 255 bytes: 255 - 63 - 36 - 2 = 154. Longer names start and never run.
inline constexpr std::size_t kMaxRemoteName = 154;

// "<local name>-<local UID>", the name cut to fit: one name per local UID, for ever. A DNS subdomain.
std::string remote_pod_name(const PodId& pod);

// The copy of a local ConfigMap or Secret: "<name>-<16 hex digits>" of owner, kind, namespace and name. Two
// nodes or clusters in one tenant namespace never share a copy, so each can collect its own.
std::string copy_name(const OwnerMark& owner, LocalKind kind, std::string_view ns, std::string_view name);

// The text itself where it can be a label's value, else its readable beginning and a hash.
std::string label_value(std::string_view text);

// The host name that the pod has on a node of its own cluster, where a pod may ask for it by spec.hostname (a
// DNS label); nullopt for pod names with dots.
std::optional<std::string> remote_hostname(const Json& pod);

}  // namespace k8sgpu::providers::kubernetes
