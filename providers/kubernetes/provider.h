// Runs pods in a tenant namespace of a remote Kubernetes cluster (K8sGPU's model). Nothing is installed
// there; one ServiceAccount with the Role of manifests/tenant-role.yaml is enough.
//
// Each local pod becomes one remote pod whose name is computed from the local UID, so that however often and
// after whatever crash ensure() is repeated, the remote API server itself refuses a second one. Everything of
// ours carries an owner mark (owner_mark.h); nothing else is ever touched.
//
// Threads of its own: watch-rpods, watch-revents (reflectors) and remote-tidy. The observer is called on the
// first and last, and in remove() on the caller's. The clients, the clock and the observer outlive it.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "common/clock.h"
#include "kube/api_client.h"
#include "providers/kubernetes/names.h"
#include "providers/port/local_objects.h"
#include "providers/port/provider.h"

namespace k8sgpu::providers {

struct KubernetesProviderOptions {
    std::string remote_namespace = "gpu";
    std::string tenant_name;  // a label of everything we make there; may be empty
    kubernetes::OwnerMark owner;
    // "same": the pod's own class; "": none; else the name of a remote class for every pod.
    std::string runtime_class;
    // Offered where no ResourceQuota of the tenant namespace says (less): resource name → quantity.
    std::map<std::string, std::string> fallback_capacity;
    // status.hostIP(s) that environment variables show until the pod's own status has it.
    std::vector<std::string> host_ips;
};

class KubernetesProvider final : public Provider {
  public:
    KubernetesProvider(KubernetesProviderOptions options, kube::ApiClient& remote, LocalObjects& local,
                       Clock& clock);
    ~KubernetesProvider() override;

    std::string name() const override { return "kubernetes"; }
    // Invalid for options that can never work; an unreachable remote is reported through the observer.
    Result<void> start(ProviderObserver& observer) override;
    void stop() override;

    std::optional<Refused> check(const DesiredPod& pod) const override;
    Result<EnsureOutcome> ensure(const DesiredPod& pod, const CallContext& ctx) override;
    Result<void> update(const DesiredPod& pod, const CallContext& ctx) override;
    // Grace 0 is sent as 1: with 0 the API server forgets the pod at once, and a machine that is slow or cut
    // off would go on running what nobody can see or pay attention to any more. A pod that is on no machine
    // yet goes at once either way. Conflict while the remote pod is there but has lost its owner mark.
    Result<void> remove(const PodId& pod, std::chrono::seconds grace, const CallContext& ctx) override;
    Result<ObservedPod> observe(const PodId& pod, const CallContext& ctx) override;
    Result<std::vector<ObservedPod>> list(const CallContext& ctx) override;
    Result<std::map<std::string, std::string>> capacity(const CallContext& ctx) override;

    LogSource* logs() override;
    Executor* executor() override;
    Attacher* attacher() override;
    PortForwarder* port_forwarder() override;
    StatsSource* stats() override;

  private:
    class Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace k8sgpu::providers
