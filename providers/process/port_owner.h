// Which address of this host's loopback leads to a port that a given pod listens on. Any thread.
//
// Pods share the host's network here, so "a port of the pod" is one whose listening socket is held open by a
// process of the pod. Where anybody else holds a socket that could answer instead (SO_REUSEPORT, a more
// exact address), the port counts as somebody else's: forwarding must never become a way into the host.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "common/result.h"

namespace k8sgpu::providers::process {

struct ListeningSocket {
    std::uint16_t port = 0;
    std::uint64_t inode = 0;
    bool answers_v4 = false;  // at 127.0.0.1
    bool answers_v6 = false;  // at ::1
};

// What listens, from the text of /proc/net/tcp or tcp6. Lines that make no sense are left out. Pure.
std::vector<ListeningSocket> parse_listening(std::string_view table);

// "127.0.0.1" or "::1"; nullopt when nobody may connect there. Pure.
std::optional<std::string> choose_loopback(const std::vector<ListeningSocket>& listening, std::uint16_t port,
                                           const std::set<std::uint64_t>& own);

// Inodes of all sockets that these processes hold.
std::set<std::uint64_t> sockets_of(const std::set<pid_t>& processes);

// What listens on this host. Internal when the kernel does not say.
Result<std::vector<ListeningSocket>> read_listening();

}  // namespace k8sgpu::providers::process
