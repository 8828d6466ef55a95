// One virtual node: everything between one Node object of the local cluster and one provider. A process may
// hold several; nothing here is global.
//
//   provider ◀─ pods (decide, execute) ◀─ watch of pods         node + lease ─▶ API server
//      ▲                    │                                    certificate ─▶ TLS ─▶ kubelet API (10250)
//      └──── logs, exec ────┴──────────── kubelet API
//
// Owned by App. start() once, on App's startup thread; stop() idempotent, any thread but our own. Members are
// in order of dependency; stop() goes the other way.
#pragma once

#include <atomic>
#include <memory>
#include <string>

#include "common/metrics.h"
#include "csr/certificate_manager.h"
#include "csr/certificate_store.h"
#include "kube/events.h"
#include "kubelet_api/authn.h"
#include "kubelet_api/authz.h"
#include "kubelet_api/client_ca.h"
#include "kubelet_api/server.h"
#include "net/tls_context.h"
#include "vnode/capacity_keeper.h"
#include "vnode/local_reader.h"
#include "vnode/node_keeper.h"
#include "vnode/pod_directory.h"
#include "vnode/pod_executor.h"
#include "vnode/provider_factory.h"
#include "vnode/runtime_classes.h"

namespace k8sgpu::vnode {

struct VirtualNodeInputs {
    Options options;
    std::string version;  // ours
    ClusterInfo cluster;
    std::string node_ip;
    std::optional<kube::ClientConfig> remote_config;
};

class VirtualNode final : public csr::CertificateObserver {
  public:
    VirtualNode(VirtualNodeInputs inputs, Clock& clock, MetricsRegistry& metrics, kube::ApiClient& client);
    ~VirtualNode() override { stop({}); }

    // Fails for what only a person can mend: a port in use, a broken file.
    Result<void> start(std::stop_token stop);
    // `until`: how long pod statuses may be written that are known and not in the API yet.
    void stop(SteadyTime until);

    // Takes over what may change while we run: the remote kubeconfig, and options of that kind.
    Result<void> use_remote_config(kube::ClientConfig config, const CallContext& ctx);
    void use_options(const Options& options);

    // What /healthz asks: do our threads turn?
    Result<void> alive() const;
    // What /readyz asks, one by one.
    Result<void> node_registered() const;
    Result<void> lease_fresh() const;
    Result<void> pods_synced() const;
    Result<void> certificate_present() const;

    void on_certificate(const std::string& chain_pem, const std::string& key_pem) override;
    void on_event(const std::string& type, const std::string& reason, const std::string& message) override;

  private:
    Result<void> start_provider(std::stop_token stop);
    Result<void> start_api();
    void start_certificates();
    void on_reachable(bool reachable, const std::string& message);

    VirtualNodeInputs inputs_;
    Clock& clock_;
    MetricsRegistry& metrics_;
    kube::ApiClient& client_;

    kube::EventRecorder events_;
    LocalReader local_objects_;
    prometheus::Gauge& remote_reachable_;
    std::atomic<Reach> reach_{Reach::Unknown};
    std::unique_ptr<ProviderHolder> holder_;
    std::unique_ptr<CapacityKeeper> capacity_;
    std::unique_ptr<NodeKeeper> node_;
    std::unique_ptr<PodExecutor> pods_;
    std::unique_ptr<kube::Reflector> pod_watch_;
    std::unique_ptr<RuntimeClasses> classes_;

    std::unique_ptr<PodDirectory> directory_;
    std::unique_ptr<net::TlsServerContext> tls_;
    std::unique_ptr<kubelet_api::ClientCa> client_ca_;
    std::unique_ptr<kubelet_api::Authenticator> authenticator_;
    std::unique_ptr<kubelet_api::Authorizer> authorizer_;
    std::unique_ptr<kubelet_api::Server> api_;

    std::unique_ptr<csr::CertificateStore> certificate_store_;
    std::unique_ptr<csr::CertificateManager> certificates_;
};

}  // namespace k8sgpu::vnode
