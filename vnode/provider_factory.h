// Makes the provider that the options ask for, with everything that it needs beside it (its own API client
// for a remote cluster). The only place that knows all providers. Called by main and App at start.
#pragma once

#include <memory>
#include <optional>

#include "kube/client_config.h"
#include "providers/port/local_objects.h"
#include "providers/port/provider.h"
#include "vnode/cluster_info.h"
#include "vnode/options.h"

namespace k8sgpu::vnode {

// What can be checked before the local cluster answers: the tenant's kubeconfig exists, is trusted and
// parses. nullopt for providers without a remote cluster.
Result<std::optional<kube::ClientConfig>> load_remote_config(const Options& options);

// A provider together with what it stands on; destroyed in the right order.
class ProviderHolder {
  public:
    virtual ~ProviderHolder() = default;
    virtual providers::Provider& provider() = 0;
    // Another kubeconfig for the same remote cluster, from the next call on; what is open goes on. Refused,
    // and nothing changes, when it may not do what we need (Unauthorized, Forbidden) or may lead to another
    // cluster (Invalid): there our pods would seem to be lost.
    virtual Result<void> reconfigure(kube::ClientConfig config, const CallContext& ctx);
};

struct ProviderInputs {
    const Options& options;
    const std::optional<kube::ClientConfig>& remote_config;
    const ClusterInfo& cluster;
    const std::string& node_ip;
    providers::LocalObjects& local_objects;
    Clock& clock;
};

Result<std::unique_ptr<ProviderHolder>> make_provider(const ProviderInputs& inputs);

}  // namespace k8sgpu::vnode
