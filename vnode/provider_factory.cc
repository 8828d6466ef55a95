#include "vnode/provider_factory.h"

#include "common/log.h"
#include "kube/curl_transport.h"
#include "kube/kubeconfig.h"
#include "kube/object.h"
#include "providers/kubernetes/provider.h"
#include "providers/process/process_provider.h"
#include "providers/simulated/simulated_provider.h"

namespace k8sgpu::vnode {
namespace {

class RemoteCluster final : public ProviderHolder {
  public:
    RemoteCluster(std::unique_ptr<kube::CurlTransport> transport, std::string server,
                  const providers::KubernetesProviderOptions& options, providers::LocalObjects& local,
                  Clock& clock)
        : clock_(clock),
          server_(std::move(server)),
          namespace_(options.remote_namespace),
          transport_(std::move(transport)),
          client_(*transport_),
          provider_(options, client_, local, clock) {}
    providers::Provider& provider() override { return provider_; }

    Result<void> reconfigure(kube::ClientConfig config, const CallContext& ctx) override {
        auto probe = kube::CurlTransport::create(config, clock_, {});
        if (!probe) return fail(probe.error());
        kube::ApiClient fresh(**probe);
        kube::ListOptions one;
        one.limit = 1;
        if (auto listed = fresh.list(kube::resources::kPods, namespace_, one, ctx); !listed)
            return fail(listed.error().with_context("trying the new kubeconfig"));
        if (config.server != server_) {
            if (auto same = same_cluster(fresh, config.server, ctx); !same) return same;
        }
        server_ = config.server;
        return transport_->reconfigure(std::move(config));
    }

  private:
    // Kubernetes puts this ConfigMap into every namespace; its UID is the namespace's own.
    static Result<std::string> namespace_identity(kube::ApiClient& client, const std::string& ns,
                                                  const CallContext& ctx) {
        auto object = client.get(kube::resources::kConfigMaps, ns, "kube-root-ca.crt", ctx);
        if (!object) return fail(object.error());
        return kube::uid_of(*object);
    }
    Result<void> same_cluster(kube::ApiClient& fresh, const std::string& server, const CallContext& ctx) {
        const auto there = namespace_identity(fresh, namespace_, ctx);
        const auto here = namespace_identity(client_, namespace_, ctx.with_timeout(Duration(5'000)));
        if (there && here && *there == *here) return {};
        return fail(
            ErrorKind::Invalid,
            fmt::format("{} {}; drain the node before it moves to another cluster, or restart k8sgpu if "
                        "this is the same one",
                        server,
                        there && here ? "is another cluster than " + server_
                                      : "cannot be shown to be the same cluster as " + server_));
    }

    Clock& clock_;
    std::string server_;  // of the reload thread
    const std::string namespace_;
    std::unique_ptr<kube::CurlTransport> transport_;
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

class SimulatedPods final : public ProviderHolder {
  public:
    SimulatedPods(providers::simulated::SimulatedProviderOptions options, Clock& clock)
        : provider_(std::move(options), clock) {}
    providers::Provider& provider() override { return provider_; }

  private:
    providers::simulated::SimulatedProvider provider_;
};

std::string runtime_class_policy(const std::string& option) {
    return option == "none" ? "" : option;
}

}  // namespace

Result<void> ProviderHolder::reconfigure(kube::ClientConfig, const CallContext&) {
    return {};  // nothing remote
}

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
    if (options.provider == ProviderKind::Simulated) {
        providers::simulated::SimulatedProviderOptions simulated;
        simulated.state_directory = options.state_dir;
        return std::unique_ptr<ProviderHolder>(
            std::make_unique<SimulatedPods>(std::move(simulated), inputs.clock));
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
        std::move(*transport), inputs.remote_config->server, kubernetes, inputs.local_objects, inputs.clock));
}

}  // namespace k8sgpu::vnode
