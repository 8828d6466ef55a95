#include "net/socket_stream.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <cerrno>

#include "net/internal/socket_io.h"

namespace k8sgpu::net {

namespace {

bool would_block(int error_number) {
    return error_number == EAGAIN || error_number == EWOULDBLOCK;
}

Error cancelled() {
    return Error{ErrorKind::Cancelled, "stream cancelled", {}, {}};
}

Endpoint endpoint_of(int fd, int (*query)(int, sockaddr*, socklen_t*)) {
    sockaddr_storage storage{};
    socklen_t length = sizeof storage;
    if (query(fd, reinterpret_cast<sockaddr*>(&storage), &length) != 0) return {};
    char text[INET6_ADDRSTRLEN] = {};
    if (storage.ss_family == AF_INET) {
        const auto* in4 = reinterpret_cast<const sockaddr_in*>(&storage);
        ::inet_ntop(AF_INET, &in4->sin_addr, text, sizeof text);
        return {text, ntohs(in4->sin_port)};
    }
    if (storage.ss_family == AF_INET6) {
        const auto* in6 = reinterpret_cast<const sockaddr_in6*>(&storage);
        // A dual-stack listener sees IPv4 clients as ::ffff:a.b.c.d; people know them as a.b.c.d.
        if (IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr)) {
            ::inet_ntop(AF_INET, &in6->sin6_addr.s6_addr[12], text, sizeof text);
        } else {
            ::inet_ntop(AF_INET6, &in6->sin6_addr, text, sizeof text);
        }
        return {text, ntohs(in6->sin6_port)};
    }
    return {};
}

}  // namespace

Result<std::optional<std::size_t>> SocketStream::try_read(std::span<char> buffer) {
    while (true) {
        if (reader_.cancelled()) return fail(cancelled());
        const auto got = ::recv(fd_.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
        if (got >= 0) return std::optional(static_cast<std::size_t>(got));
        if (would_block(errno)) return std::optional<std::size_t>();
        if (errno != EINTR) return fail(internal::socket_error(errno, "reading from the connection"));
    }
}

Result<std::size_t> SocketStream::try_write(std::string_view bytes) {
    while (true) {
        if (writer_.cancelled()) return fail(cancelled());
        const auto sent = ::send(fd_.get(), bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent >= 0) return static_cast<std::size_t>(sent);
        if (would_block(errno)) return std::size_t{0};
        if (errno != EINTR) return fail(internal::socket_error(errno, "writing to the connection"));
    }
}

Result<std::size_t> SocketStream::read(std::span<char> buffer, const CallContext& ctx) {
    while (true) {
        if (ctx.stop().stop_requested()) return fail(cancelled());
        const auto got = try_read(buffer);
        if (!got) return fail(got.error());
        if (got->has_value()) return **got;
        if (auto ready = reader_.wait(fd_.get(), POLLIN, ctx); !ready) return fail(ready.error());
    }
}

Result<void> SocketStream::write(std::string_view bytes, const CallContext& ctx) {
    while (!bytes.empty()) {
        if (ctx.stop().stop_requested()) return fail(cancelled());
        const auto sent = try_write(bytes);
        if (!sent) return fail(sent.error());
        bytes.remove_prefix(*sent);
        if (*sent > 0) continue;
        if (auto ready = writer_.wait(fd_.get(), POLLOUT, ctx); !ready) return ready;
    }
    return {};
}

Result<void> SocketStream::shut_write() {
    if (::shutdown(fd_.get(), SHUT_WR) == 0 || errno == ENOTCONN) return {};
    return fail(internal::socket_error(errno, "ending the connection"));
}

void SocketStream::cancel() {
    reader_.cancel();
    writer_.cancel();
}

bool SocketStream::peer_hung_up() const {
    return socket_peer_hung_up(fd_.get());
}

bool socket_peer_hung_up(int fd) {
    pollfd query{fd, POLLRDHUP, 0};
    return ::poll(&query, 1, 0) > 0 && (query.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
}

Endpoint peer_endpoint(int fd) {
    return endpoint_of(fd, ::getpeername);
}

Endpoint local_endpoint(int fd) {
    return endpoint_of(fd, ::getsockname);
}

}  // namespace k8sgpu::net
