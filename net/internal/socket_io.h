// What every socket user here shares: turning errno into our kinds, and the options of a TCP connection.
// Internal to net/; any thread.
#pragma once

#include <string_view>

#include "common/error.h"

namespace k8sgpu::net::internal {

// A lost or refused connection is Unavailable; a lack of descriptors or memory, or a bug, Internal.
Error socket_error(int error_number, std::string_view doing);

// No delay for small frames (resize, keystrokes), and keep-alive that finds a silent death in 90 s.
// TCP_USER_TIMEOUT is left alone: it would also end a connection whose client pauses its terminal.
void tune_tcp(int fd);

}  // namespace k8sgpu::net::internal
