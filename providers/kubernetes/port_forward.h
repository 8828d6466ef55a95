// Connections to ports of remote pods, through the remote API server's port-forward. Each call has a session
// and one helper thread of its own, joined before it returns.
#pragma once

#include "kube/transport.h"
#include "providers/kubernetes/locator.h"
#include "providers/port/exec.h"

namespace k8sgpu::providers::kubernetes {

class RemotePortForward final : public PortForwarder {
  public:
    RemotePortForward(kube::Transport& remote, Locator& locator) : remote_(remote), locator_(locator) {}

    // Unavailable with the remote kubelet's text when nothing listens there.
    Result<void> forward(const PodId& pod, std::uint16_t port, net::ByteStream& stream,
                         const CallContext& ctx) override;

  private:
    kube::Transport& remote_;
    Locator& locator_;
};

}  // namespace k8sgpu::providers::kubernetes
