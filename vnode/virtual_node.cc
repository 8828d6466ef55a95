#include "vnode/virtual_node.h"

#include <random>

#include "common/log.h"
#include "csr/signer.h"
#include "kubelet_api/tls_ciphers.h"
#include "vnode/kubelet_config.h"
#include "vnode/pod_requests.h"

namespace k8sgpu::vnode {
namespace {

constexpr Duration kCapacityPatience{15'000};
// A thread that has not turned for so long hangs: its own calls end after 30 s at the latest.
constexpr Duration kStuckAfter{90'000};
constexpr Duration kLeaseLength{40'000};

NodeConfig node_config(const VirtualNodeInputs& inputs) {
    const Options& options = inputs.options;
    NodeConfig config;
    config.name = options.node_name;
    config.node_ip = inputs.node_ip;
    config.port = options.port;
    config.labels = options.node_labels;
    config.taints = options.taints;
    config.provider = to_string(options.provider);
    config.version = inputs.version;
    config.node_identity = inputs.cluster.node_identity;
    return config;
}

kube::ReflectorOptions pod_watch_options(const std::string& node_name) {
    kube::ReflectorOptions options;
    options.name = "pods";
    options.resource = kube::resources::kPods;
    options.field_selector = "spec.nodeName=" + node_name;
    return options;
}

Result<void> turning(const char* name, SteadyTime last, SteadyTime now) {
    if (now - last < kStuckAfter) return {};
    const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(now - last).count();
    return fail(ErrorKind::Internal, fmt::format("thread {} has not turned for {} s", name, seconds));
}

}  // namespace

VirtualNode::VirtualNode(VirtualNodeInputs inputs, Clock& clock, MetricsRegistry& metrics,
                         kube::ApiClient& client)
    : inputs_(std::move(inputs)),
      clock_(clock),
      metrics_(metrics),
      client_(client),
      events_(client, clock, {.host = inputs_.options.node_name}),
      local_objects_(client),
      remote_reachable_(prometheus::BuildGauge()
                            .Name("k8sgpu_remote_reachable")
                            .Help("1 while the provider answers, 0 while it does not.")
                            .Register(metrics_)
                            .Add({{"node", inputs_.options.node_name}})) {}

Result<void> VirtualNode::start(std::stop_token stop) {
    events_.start();
    if (auto started = start_provider(stop); !started) return started;
    if (auto started = start_api(); !started) return started;
    on_event("Normal", "Starting", "Starting kubelet.");
    node_->start();
    pods_->start();
    classes_->start();
    pod_watch_->start();
    start_certificates();
    return {};
}

Result<void> VirtualNode::start_provider(std::stop_token stop) {
    const Options& options = inputs_.options;
    auto made = make_provider(
        {options, inputs_.remote_config, inputs_.cluster, inputs_.node_ip, local_objects_, clock_});
    if (!made) return fail(made.error());
    holder_ = std::move(*made);
    providers::Provider& provider = holder_->provider();

    capacity_ = std::make_unique<CapacityKeeper>(
        clock_, provider, options.capacity, [this](const Capacity& capacity) {
            node_->update_facts([&](NodeFacts& facts) { facts.capacity = capacity; });
        });
    NodeFacts facts;
    facts.server_version = inputs_.cluster.server_version;
    facts.link_policy = options.link_policy;
    node_ = std::make_unique<NodeKeeper>(node_config(inputs_), facts, clock_, client_, std::random_device{}(),
                                         [this] { return requests_in_use(pods_->list()); });

    PodExecutorOptions executor;
    executor.controller = {options.node_name, provider.name(), inputs_.node_ip, options.pod_ip};
    pods_ = std::make_unique<PodExecutor>(
        executor, clock_, client_, provider, metrics_,
        [this](const Json& pod, const std::string& type, const std::string& reason,
               const std::string& message) {
            events_.record(kube::event_object(pod, "Pod"), type, reason, message);
        },
        [this](const PodId& pod) {
            if (api_ != nullptr) api_->cancel_pod(pod.uid, "pod is gone");
        },
        [this](bool reachable, const std::string& message) { on_reachable(reachable, message); });
    pod_watch_ =
        std::make_unique<kube::Reflector>(client_, clock_, pod_watch_options(options.node_name), *pods_);
    classes_ = std::make_unique<RuntimeClasses>(client_, clock_, [this](const std::set<std::string>& names) {
        pods_->dispatch(ClassesListed{names});
    });
    if (auto started = provider.start(*pods_); !started) return started;
    const Capacity offered = capacity_->first(kCapacityPatience, stop);
    node_->update_facts([&](NodeFacts& known) { known.capacity = offered; });
    capacity_->start();
    return {};
}

Result<void> VirtualNode::start_api() {
    const Options& options = inputs_.options;
    const bool only_13 = options.tls_min_version == "VersionTLS13";
    auto ciphers = kubelet_api::openssl_cipher_list(options.tls_cipher_suites);
    if (!ciphers) return fail(ciphers.error().with_context("--tls-cipher-suites"));
    auto tls = net::TlsServerContext::create(
        {.min_version = only_13 ? net::TlsVersion::Tls13 : net::TlsVersion::Tls12, .cipher_list = *ciphers});
    if (!tls) return fail(tls.error());
    tls_ = std::move(*tls);

    client_ca_ = std::make_unique<kubelet_api::ClientCa>(
        clock_, &client_,
        kubelet_api::ClientCaOptions{.file = options.client_ca_file,
                                     .on_changed = [this](const std::string& pem) {
                                         if (auto named = tls_->set_client_ca(pem); !named)
                                             log().warn("{}", named.error().message);
                                     }});
    if (auto started = client_ca_->start(); !started)
        return fail(started.error().with_context("--client-ca-file"));
    authenticator_ = std::make_unique<kubelet_api::DelegatingAuthenticator>(clock_, client_, *client_ca_);
    authorizer_ = std::make_unique<kubelet_api::SarAuthorizer>(
        clock_, client_, kubelet_api::SarAuthorizerOptions{.node_name = options.node_name});

    directory_ = std::make_unique<PodDirectory>(*pods_, holder_->provider());
    kubelet_api::ServerOptions server;
    server.address = options.listen_address;
    server.port = options.port;
    server.node_name = options.node_name;
    server.configz = kubelet_config(options);
    api_ = std::make_unique<kubelet_api::Server>(clock_, server, *tls_, *authenticator_, *authorizer_,
                                                 *directory_, metrics_, [this] { return alive(); });
    if (auto started = api_->start(); !started) return fail(started.error().with_context("--port"));
    return {};
}

void VirtualNode::start_certificates() {
    const Options& options = inputs_.options;
    if (options.cert_secret.empty()) {
        const std::string directory =
            options.cert_dir.empty() ? options.state_dir + "/pki" : options.cert_dir;
        certificate_store_ = std::make_unique<csr::DirectoryCertificateStore>(directory);
    } else {
        certificate_store_ = std::make_unique<csr::SecretCertificateStore>(
            client_, options.pod_namespace, options.cert_secret, options.node_name);
    }
    csr::CertificateManagerOptions manager;
    manager.state.node_name = options.node_name;
    manager.state.signer = csr::signer_name(options.csr_signer).value_or(options.csr_signer);
    manager.state.self_approve = options.csr_approve;
    manager.state.random = [engine = std::make_shared<std::minstd_rand>(std::random_device{}())] {
        return std::uniform_real_distribution<double>(0, 1)(*engine);
    };
    certificates_ = std::make_unique<csr::CertificateManager>(clock_, client_, *certificate_store_, *this,
                                                              metrics_, std::move(manager));
    certificates_->start();
    if (auto named = certificates_->set_names({.dns = {}, .ips = {inputs_.node_ip}}); !named) {
        log().error("names of the serving certificate: {}", named.error().message);
    }
}

void VirtualNode::stop(SteadyTime until) {
    if (certificates_) certificates_->stop();
    if (api_) api_->stop();
    if (client_ca_) client_ca_->stop();
    if (pod_watch_) pod_watch_->stop();
    if (classes_) classes_->stop();
    if (pods_) pods_->stop(until);
    if (capacity_) capacity_->stop();
    if (holder_) holder_->provider().stop();
    if (node_) node_->stop();
    events_.stop();
}

Result<void> VirtualNode::use_remote_config(kube::ClientConfig config, const CallContext& ctx) {
    return holder_->reconfigure(std::move(config), ctx);
}

void VirtualNode::use_options(const Options& options) {
    capacity_->use_configured(options.capacity);
    node_->update_facts([&](NodeFacts& facts) { facts.link_policy = options.link_policy; });
}

Result<void> VirtualNode::alive() const {
    const SteadyTime now = clock_.now();
    if (auto ok = turning("pod-loop", pods_->last_tick(), now); !ok) return ok;
    if (auto ok = turning("node", node_->last_node_tick(), now); !ok) return ok;
    return turning("lease", node_->last_lease_tick(), now);
}

Result<void> VirtualNode::node_registered() const {
    if (node_->registered()) return {};
    const std::string problem = node_->problem();
    return fail(ErrorKind::Unavailable, problem.empty() ? "not registered yet" : problem);
}

Result<void> VirtualNode::lease_fresh() const {
    const auto renewed = node_->lease_renewed_at();
    if (!renewed) return fail(ErrorKind::Unavailable, "not renewed yet");
    const auto age = clock_.now() - *renewed;
    if (age < kLeaseLength) return {};
    return fail(
        ErrorKind::Unavailable,
        fmt::format("last renewed {} s ago", std::chrono::duration_cast<std::chrono::seconds>(age).count()));
}

Result<void> VirtualNode::pods_synced() const {
    if (pods_->synced()) return {};
    return fail(ErrorKind::Unavailable,
                "waiting for the first complete lists of the cluster's and the provider's pods");
}

Result<void> VirtualNode::certificate_present() const {
    if (certificates_ && certificates_->has_certificate()) return {};
    return fail(
        ErrorKind::Unavailable,
        "no serving certificate yet; kubectl get csr, kubectl describe node " + inputs_.options.node_name);
}

void VirtualNode::on_reachable(bool reachable, const std::string& message) {
    const Reach now = reachable ? Reach::Reachable : Reach::Unreachable;
    const Reach before = reach_.exchange(now);
    remote_reachable_.Set(reachable ? 1 : 0);
    node_->update_facts([&](NodeFacts& facts) {
        facts.provider = now;
        facts.provider_message = message;
    });
    if (now == before) return;
    if (!reachable) {
        log().warn("provider is unreachable: {}", message);
        on_event("Warning", "RemoteUnreachable", message);
    } else if (before == Reach::Unreachable) {
        log().info("provider is reachable again");
        on_event("Normal", "RemoteReachable", "the provider answers again");
    }
}

void VirtualNode::on_certificate(const std::string& chain_pem, const std::string& key_pem) {
    if (auto set = tls_->set_certificate(chain_pem, key_pem); !set) {
        log().error("serving certificate: {}", set.error().message);
    }
}

void VirtualNode::on_event(const std::string& type, const std::string& reason, const std::string& message) {
    kube::EventObject about;
    about.kind = "Node";
    about.name = inputs_.options.node_name;
    about.uid = node_->node_uid();
    if (about.uid.empty()) about.uid = about.name;  // as the kubelet: kubectl describe looks for both
    events_.record(about, type, reason, message);
}

}  // namespace k8sgpu::vnode
