#include "net/internal/socket_io.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <spdlog/fmt/fmt.h>
#include <sys/socket.h>

#include <cerrno>
#include <system_error>

namespace k8sgpu::net::internal {

Error socket_error(int error_number, std::string_view doing) {
    const auto text = fmt::format("{}: {}", doing, std::generic_category().message(error_number));
    switch (error_number) {
        case ECONNRESET:
        case ECONNREFUSED:
        case ECONNABORTED:
        case EPIPE:
        case ETIMEDOUT:
        case EHOSTUNREACH:
        case EHOSTDOWN:
        case ENETUNREACH:
        case ENETDOWN:
        case ENOTCONN:
        case EADDRINUSE:
        case EADDRNOTAVAIL:
        case EAGAIN:  // a Unix socket whose backlog is full
        case ENOENT:  // a Unix socket that is not there
            return Error{ErrorKind::Unavailable, text, {}, {}};
        case EACCES:
        case EPERM:
            return Error{ErrorKind::Forbidden, text, {}, {}};
        default:
            return Error{ErrorKind::Internal, text, {}, {}};
    }
}

void tune_tcp(int fd) {
    const auto set = [fd](int level, int name, int value) {
        // Best effort: a Unix socket has none of these.
        ::setsockopt(fd, level, name, &value, sizeof value);
    };
    set(IPPROTO_TCP, TCP_NODELAY, 1);
    set(SOL_SOCKET, SO_KEEPALIVE, 1);
    set(IPPROTO_TCP, TCP_KEEPIDLE, 30);
    set(IPPROTO_TCP, TCP_KEEPINTVL, 10);
    set(IPPROTO_TCP, TCP_KEEPCNT, 6);
}

}  // namespace k8sgpu::net::internal
