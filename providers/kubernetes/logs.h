// Container logs from the remote API server, passed on as they come. Any thread; owns nothing.
#pragma once

#include <string>

#include "kube/transport.h"
#include "providers/kubernetes/locator.h"
#include "providers/port/logs.h"

namespace k8sgpu::providers::kubernetes {

// Path and query of the remote pods/log request. Pure.
std::string log_path(const RemoteAddress& pod, const LogRequest& request);

class RemoteLogs final : public LogSource {
  public:
    RemoteLogs(kube::Transport& remote, Locator& locator) : remote_(remote), locator_(locator) {}

    // The remote server's error, with the pod under its local name; Unavailable when the connection breaks.
    Result<void> logs(const LogRequest& request, LogSink& sink, const CallContext& ctx) override;

  private:
    kube::Transport& remote_;
    Locator& locator_;
};

}  // namespace k8sgpu::providers::kubernetes
