// The v1.Node of this virtual node, as a pure function of what we know. The creating POST already carries
// everything that other readers trip over when it is missing (kubelet-contract §4, osmo.md §2): conditions,
// addresses, capacity and allocatable with ephemeral-storage, the hostname label equal to the node name, os
// and arch, providerID. Pure; any thread.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "common/clock.h"
#include "common/json.h"
#include "vnode/link_policy.h"

namespace k8sgpu::vnode {

struct Taint {
    std::string key;
    std::string value;
    std::string effect;  // NoSchedule | PreferNoSchedule | NoExecute
};

// What the operator chose; fixed for the life of the process.
struct NodeConfig {
    std::string name = "k8s.gpu";
    std::string node_ip;
    std::uint16_t port = 10250;
    std::map<std::string, std::string> labels;  // --node-labels, applied when the Node is created and kept
    std::vector<Taint> taints;  // --register-with-taints, applied only when the Node is created
    std::string provider;       // "kubernetes" | "process" | "simulated"
    std::string version;        // ours: "0.1.0"
    // A kubelet identity (system:node:…) may not set labels under kubernetes.io beyond the admitted ones.
    bool node_identity = false;
};

// What changes while we run.
struct NodeFacts {
    std::map<std::string, std::string> capacity;  // resource → quantity
    std::string server_version;                   // "v1.36.3" of the local API server; empty while unknown
    Reach provider = Reach::Unknown;
    std::string provider_message;  // why it is unreachable
    LinkPolicy link_policy;
};

// What the Node says about its link to the provider, decided by NodeController from the facts and the time.
struct LinkReport {
    Reach reach = Reach::Unknown;
    std::string message;
    bool ready = true;
    // Resource → quantity to be allocatable at most: what is in use. nullopt: all of the capacity.
    std::optional<std::map<std::string, std::string>> in_use;
};

// Labels that we own. Everything else on the Node belongs to others.
std::map<std::string, std::string> managed_labels(const NodeConfig& config);

// The complete Node for the creating POST, status included.
Json build_node(const NodeConfig& config, const NodeFacts& facts, const LinkReport& link, WallTime now);

// The status that we want, given what is there: only our conditions, transition times kept where nothing
// changed.
Json build_node_status(const NodeConfig& config, const NodeFacts& facts, const LinkReport& link,
                       const Json& current, WallTime now);

// Strategic merge patch of the metadata that we own (labels, annotation, providerID when unset); null when
// nothing differs.
Json node_metadata_patch(const NodeConfig& config, const Json& node);

// Strategic merge patch for /status; null when nothing but heartbeat times differs and `report` is false.
// Foreign conditions are never mentioned.
Json node_status_patch(const Json& current_status, const Json& wanted_status, bool report);

// kubeletVersion for this API server: never newer than it, and a plain release for every semver reader
// ("v1.36.3+k8sgpu.0.1.0"; build metadata does not count in comparisons).
std::string kubelet_version(const std::string& server_version, const std::string& our_version);

// "k=v,k2=v2" of --node-labels, "key=value:Effect,…" of --register-with-taints and "cpu=8,memory=32Gi" of
// --capacity.
Result<std::map<std::string, std::string>> parse_labels(const std::string& text);
Result<std::vector<Taint>> parse_taints(const std::string& text);

}  // namespace k8sgpu::vnode
