// Upgraded connections to the remote API server: WebSocket where it and everything between speaks it, else
// SPDY. Any thread; the sessions are the caller's.
#pragma once

#include <memory>
#include <string>

#include "kube/transport.h"
#include "net/mux_session.h"

namespace k8sgpu::providers::kubernetes {

struct CommandStreams {
    bool in = false;
    bool out = false;
    bool err = false;
    bool tty = false;  // then there is a resize stream, and no err
};

// For exec and attach, whose `path` carries the query. Tried in this order until one is taken:
//   WebSocket v5 · SPDY v4 · WebSocket v4 (has no way to end stdin)
// A server's real refusal (RBAC, no such pod) is what the last attempt reports.
Result<std::unique_ptr<net::MuxSession>> open_command_session(kube::Transport& remote,
                                                              const std::string& path,
                                                              const CommandStreams& streams,
                                                              const CallContext& ctx);

// For port-forward: SPDY in a WebSocket tunnel (API servers from 1.31), else SPDY.
Result<std::unique_ptr<net::MuxSession>> open_forward_session(kube::Transport& remote,
                                                              const std::string& path,
                                                              const CallContext& ctx);

}  // namespace k8sgpu::providers::kubernetes
