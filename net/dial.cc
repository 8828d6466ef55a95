#include "net/dial.h"

#include <netdb.h>
#include <poll.h>
#include <spdlog/fmt/fmt.h>
#include <sys/socket.h>

#include <cerrno>

#include "common/scope_exit.h"
#include "net/internal/socket_io.h"
#include "net/wake.h"

namespace k8sgpu::net {

namespace {

constexpr Duration kMaxPerAddress{10'000};

Result<Fd> connect_one(const addrinfo& where, const std::string& doing, const CallContext& ctx) {
    Fd fd(::socket(where.ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, where.ai_protocol));
    if (!fd.valid()) return fail(internal::socket_error(errno, doing));
    if (::connect(fd.get(), where.ai_addr, where.ai_addrlen) != 0) {
        if (errno != EINPROGRESS) return fail(internal::socket_error(errno, doing));
        Waker waker;
        if (auto ready = waker.wait(fd.get(), POLLOUT, ctx); !ready) {
            return fail(ready.error().with_context(doing));
        }
        int error_number = 0;
        socklen_t length = sizeof error_number;
        ::getsockopt(fd.get(), SOL_SOCKET, SO_ERROR, &error_number, &length);
        if (error_number != 0) return fail(internal::socket_error(error_number, doing));
    }
    internal::tune_tcp(fd.get());
    return fd;
}

}  // namespace

Result<Fd> dial(const std::string& host, std::uint16_t port, const CallContext& ctx) {
    if (auto ok = ctx.check(); !ok) return fail(ok.error());
    const auto doing = fmt::format("connecting to {} port {}", host, port);
    addrinfo hints{};
    hints.ai_family = AF_UNSPEC;
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = AI_NUMERICSERV;
    addrinfo* found = nullptr;
    const int rc = ::getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &found);
    if (rc != 0) return fail(ErrorKind::Unavailable, fmt::format("{}: {}", doing, ::gai_strerror(rc)));
    const ScopeExit free_found([found] { ::freeaddrinfo(found); });

    Error last{ErrorKind::Unavailable, doing + ": no address", {}, {}};
    for (const addrinfo* at = found; at != nullptr; at = at->ai_next) {
        const bool is_last = at->ai_next == nullptr;
        const auto share = is_last ? ctx : ctx.with_timeout(std::min(kMaxPerAddress, ctx.remaining() / 2));
        auto fd = connect_one(*at, doing, share);
        if (fd) return fd;
        last = fd.error();
        if (auto ok = ctx.check(); !ok) break;  // ours to give up, not the address's fault
    }
    return fail(last);
}

}  // namespace k8sgpu::net
