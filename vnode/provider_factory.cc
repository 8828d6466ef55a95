#include "vnode/provider_factory.h"

#include "kube/curl_transport.h"
#include "kube/kubeconfig.h"
#include "providers/kubernetes/provider.h"
#include "providers/process/process_provider.h"

namespace k8sgpu::vnode {
namespace {

class RemoteCluster final : public ProviderHolder {
  public:
    RemoteCluster(std::unique_ptr<kube::Transport> transport, providers::KubernetesProviderOptions options,
                  providers::LocalObjects& local, Clock& clock)
        : transport_(std::move(transport)),
          client_(*transport_),
          provider_(std::move(options), client_, local, clock) {}
    providers::Provider& provider() override { return provider_; }

  private:
    std::unique_ptr<kube::Transport> transport_;
    kube::ApiClient client_;
    providers::KubernetesProvider provider_;
};

class HostProcesses final : public ProviderHolder {
  public:
    HostProcesses(providers::process::ProcessProviderOptions options, providers::LocalObjects& local,
                  Clock& clock)
        : provider_(std::move(options), clock, local) {}
    providers::Provider& provider() override { return provider_; }

  private:
    providers::process::ProcessProvider provider_;
};

std::string runtime_class_policy(const std::string& option) {
    return option == "none" ? "" : option;
}

}  // namespace

Result<std::optional<kube::ClientConfig>> load_remote_config(const Options& options) {
    if (options.provider != ProviderKind::Kubernetes) return std::optional<kube::ClientConfig>();
    auto config = kube::load_kubeconfig(options.remote_kubeconfig, {.context = "", .trusted_only = true});
    if (!config) {
        Error error = config.error().with_context("--remote-kubeconfig");
        if (error.kind == ErrorKind::NotFound) {
            error.message +=
                "; mount the tenant's kubeconfig there, or use --provider=process to run pods on this host";
        }
        return fail(error);
    }
    return std::optional(std::move(*config));
}

Result<std::unique_ptr<ProviderHolder>> make_provider(const ProviderInputs& inputs) {
    const Options& options = inputs.options;
    if (options.provider == ProviderKind::Process) {
        providers::process::ProcessProviderOptions process;
        process.state_directory = options.state_dir;
        process.node = {options.node_name, {inputs.node_ip}, options.capacity};
        process.capacity = options.capacity;
        return std::unique_ptr<ProviderHolder>(
            std::make_unique<HostProcesses>(std::move(process), inputs.local_objects, inputs.clock));
    }
    auto transport = kube::CurlTransport::create(*inputs.remote_config, inputs.clock, {});
    if (!transport) return fail(transport.error().with_context("--remote-kubeconfig"));
    providers::KubernetesProviderOptions kubernetes;
    kubernetes.remote_namespace = options.remote_namespace;
    kubernetes.tenant_name = options.tenant_name;
    kubernetes.owner = {inputs.cluster.cluster_uid, options.node_name};
    kubernetes.runtime_class = runtime_class_policy(options.remote_runtime_class);
    kubernetes.fallback_capacity = options.capacity;
    kubernetes.host_ips = {inputs.node_ip};
    return std::unique_ptr<ProviderHolder>(std::make_unique<RemoteCluster>(
        std::move(*transport), std::move(kubernetes), inputs.local_objects, inputs.clock));
}

}  // namespace k8sgpu::vnode
