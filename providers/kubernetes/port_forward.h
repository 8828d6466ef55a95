// Connections to ports of remote pods, through the remote API server's port-forward.
//
// A client's session has one session of ours there, as with kubectl: opened with its first connection, again
// when it has ended, and closed with the client's. Each connection is a pair of streams in it, which costs no
// thread and no wait. Two clients never share one, so a client that reads slowly holds up no other.
#pragma once

#include "kube/transport.h"
#include "net/mux_session.h"
#include "providers/kubernetes/locator.h"
#include "providers/port/exec.h"

namespace k8sgpu::providers::kubernetes {

class RemotePortForward final : public PortForwarder {
  public:
    RemotePortForward(kube::Transport& remote, Locator& locator) : remote_(remote), locator_(locator) {}

    std::unique_ptr<PodPorts> ports_of(const PodId& pod) override;

  private:
    kube::Transport& remote_;
    Locator& locator_;
};

}  // namespace k8sgpu::providers::kubernetes
