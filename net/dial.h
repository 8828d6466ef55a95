// Connects to a TCP address within a deadline. Pure shell over sockets; any thread.
#pragma once

#include <cstdint>
#include <string>

#include "common/call_context.h"
#include "net/fd.h"

namespace k8sgpu::net {

// `host` is a name or a numeric address without brackets. Tries the addresses in the resolver's order; one
// that does not answer leaves the next at least a part of the time. The descriptor is non-blocking, with
// TCP_NODELAY and keep-alive. Looking up a name cannot be cut short: it ends by resolv.conf's own limits.
// Errors: Unavailable (refused, unreachable, unknown name), Timeout, Cancelled, Internal.
Result<Fd> dial(const std::string& host, std::uint16_t port, const CallContext& ctx);

}  // namespace k8sgpu::net
