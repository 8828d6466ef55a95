#include "net/listener.h"

#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <spdlog/fmt/fmt.h>
#include <sys/socket.h>

#include <cerrno>

#include "common/scope_exit.h"
#include "net/internal/socket_io.h"
#include "net/socket_stream.h"

namespace k8sgpu::net {

namespace {

Result<Fd> bind_and_listen(const addrinfo& where, int backlog, const std::string& doing) {
    Fd fd(::socket(where.ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    if (!fd.valid()) return fail(internal::socket_error(errno, doing));
    const int on = 1;
    const int off = 0;
    ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (where.ai_family == AF_INET6) {
        ::setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
    }
    if (::bind(fd.get(), where.ai_addr, where.ai_addrlen) != 0 || ::listen(fd.get(), backlog) != 0) {
        return fail(internal::socket_error(errno, doing));
    }
    return fd;
}

Result<Fd> listen_on(const std::string& address, std::uint16_t port, int backlog) {
    addrinfo hints{};
    hints.ai_family = AF_UNSPEC;
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE;
    addrinfo* found = nullptr;
    if (::getaddrinfo(address.c_str(), std::to_string(port).c_str(), &hints, &found) != 0) {
        return fail(ErrorKind::Invalid,
                    fmt::format("listen address '{}' is not an IPv4 or IPv6 address", address));
    }
    const ScopeExit free_found([found] { ::freeaddrinfo(found); });
    return bind_and_listen(*found, backlog, fmt::format("listening on {} port {}", address, port));
}

// Troubles of one client, or a shortage that passes.
bool is_passing(int error_number) {
    switch (error_number) {
        case ECONNABORTED:
        case EINTR:
        case EPROTO:
        case ENETDOWN:
        case ENOPROTOOPT:
        case EHOSTDOWN:
        case ENONET:
        case EHOSTUNREACH:
        case EOPNOTSUPP:
        case ENETUNREACH:
        case EPERM:
            return true;
        default:
            return false;
    }
}

bool is_shortage(int error_number) {
    return error_number == EMFILE || error_number == ENFILE || error_number == ENOBUFS ||
           error_number == ENOMEM;
}

}  // namespace

Result<std::unique_ptr<Listener>> Listener::open(const std::string& address, std::uint16_t port,
                                                 int backlog) {
    auto fd = listen_on(address.empty() ? "::" : address, port, backlog);
    if (!fd && address.empty() && fd.error().kind == ErrorKind::Internal) {
        fd = listen_on("0.0.0.0", port, backlog);  // a host without IPv6
    }
    if (!fd) return fail(fd.error());
    const auto bound = local_endpoint(fd->get()).port;
    return std::unique_ptr<Listener>(new Listener(*std::move(fd), bound));
}

Result<Fd> Listener::accept(const CallContext& ctx) {
    while (true) {
        if (auto ready = waker_.wait(fd_.get(), POLLIN, ctx); !ready) return fail(ready.error());
        Fd client(::accept4(fd_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
        if (client.valid()) {
            internal::tune_tcp(client.get());
            return client;
        }
        const int error_number = errno;
        if (error_number == EAGAIN || error_number == EWOULDBLOCK || is_passing(error_number)) continue;
        if (!is_shortage(error_number))
            return fail(internal::socket_error(error_number, "accepting a connection"));
        // The waiting connection keeps the socket readable: pause, or this would spin until one closes.
        auto paused = waker_.wait(-1, 0, ctx.with_timeout(Duration(100)));
        if (!paused && paused.error().kind != ErrorKind::Timeout) return fail(paused.error());
    }
}

}  // namespace k8sgpu::net
