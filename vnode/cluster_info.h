// What has to be known of the local cluster before anything can be decided: its version, its identity, and
// who we are in it. Learned once at start; waits as long as the API server needs, and says so. Called by
// App's thread "startup".
#pragma once

#include <functional>
#include <string>

#include "kube/api_client.h"

namespace k8sgpu::vnode {

struct ClusterInfo {
    std::string server_version;  // "v1.36.3"
    std::string cluster_uid;     // UID of namespace kube-system: marks what is ours at a backend
    std::string username;        // "system:serviceaccount:kube-system:k8sgpu"
    bool node_identity = false;  // system:node:<name> in group system:nodes
};

// One attempt. A refusal says which permission is missing and which manifest grants it.
Result<ClusterInfo> fetch_cluster_info(kube::ApiClient& client, const CallContext& ctx);

// Repeats until it succeeds or `stop` asks; every failure goes to `waiting` (for the log and /readyz).
Result<ClusterInfo> wait_for_cluster(kube::ApiClient& client, Clock& clock, std::stop_token stop,
                                     const std::function<void(const Error&)>& waiting);

// The local address that faces `host`:`port`, for --node-ip; asks the routing table, sends nothing.
// Invalid when that is a loopback address: the API server refuses to proxy there.
Result<std::string> address_facing(const std::string& host, std::uint16_t port);

}  // namespace k8sgpu::vnode
