// Commands in remote containers: an ExecIo joined with the remote API server's exec or attach session.
//
// Each call has a session of its own (with its two threads); the calling thread carries all bytes. A terminal
// has a thread "rexec-size" besides, joined before the call returns. The session is cancelled when the
// context's token asks.
#pragma once

#include <string>

#include "kube/transport.h"
#include "providers/kubernetes/locator.h"
#include "providers/kubernetes/remote_session.h"
#include "providers/port/exec.h"

namespace k8sgpu::providers::kubernetes {

// Path and query of the remote exec request, or of attach when there is no command. Pure.
std::string command_path(const RemoteAddress& pod, const ExecRequest& request, const CommandStreams& streams);

class RemoteExec final : public Executor, public Attacher {
  public:
    RemoteExec(kube::Transport& remote, Locator& locator) : remote_(remote), locator_(locator) {}

    Result<ExitStatus> exec(const ExecRequest& request, ExecIo& io, const CallContext& ctx) override;
    Result<void> attach(const ExecRequest& request, ExecIo& io, const CallContext& ctx) override;

  private:
    Result<ExitStatus> run(const ExecRequest& request, ExecIo& io, const CallContext& ctx);

    kube::Transport& remote_;
    Locator& locator_;
};

}  // namespace k8sgpu::providers::kubernetes
