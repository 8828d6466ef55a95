// Carries what changes on a running local pod to its copy: the pod itself, its resources (in-place resize),
// and the containers that kubectl debug adds. One kind that fails does not hold up the others.
//
// Owned by KubernetesProvider; any thread, never two calls for one pod at once; keeps no state.
#pragma once

#include "providers/kubernetes/forwarding.h"
#include "providers/kubernetes/remote_calls.h"

namespace k8sgpu::providers::kubernetes {

class RunningChanges {
  public:
    RunningChanges(kube::ApiClient& remote, RemoteCalls& calls, Forwarding& forwarding,
                   const TranslateOptions& options)
        : remote_(remote), calls_(calls), forwarding_(forwarding), options_(options) {}

    // See Provider::update(). Unsupported: the remote cluster has no such subresource; Forbidden: its Role
    // lacks the rule (the message says which); Invalid: refused here, with the field.
    Result<void> update(const DesiredPod& desired, const CallContext& ctx);

  private:
    Result<void> send(const Json& remote, const std::optional<Json>& patch, std::string_view subresource,
                      const CallContext& ctx);
    Result<void> add_ephemeral(const DesiredPod& desired, const Json& remote, const CallContext& ctx);

    kube::ApiClient& remote_;
    RemoteCalls& calls_;
    Forwarding& forwarding_;
    const TranslateOptions& options_;
};

}  // namespace k8sgpu::providers::kubernetes
