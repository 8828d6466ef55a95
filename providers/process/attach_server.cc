#include "providers/process/attach_server.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "common/file.h"
#include "common/scope_exit.h"

namespace k8sgpu::providers::process {
namespace {

constexpr std::size_t kChunk = 32768;
constexpr int kBacklog = 16;
constexpr const char* kSocket = "socket";

template <class... Ts>
struct Overloaded : Ts... {
    using Ts::operator()...;
};
template <class... Ts>
Overloaded(Ts...) -> Overloaded<Ts...>;

bool would_block() {
    return errno == EAGAIN || errno == EINTR;
}

// An address has room for 107 bytes only: the directory is named by a descriptor, whatever its path.
Result<net::Fd> with_address(const PodPaths& paths, int flags,
                             const std::function<int(int fd, const sockaddr*, socklen_t)>& use) {
    const net::Fd directory(::open(paths.attach().c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW));
    if (!directory.valid()) return fail(error_from_errno(errno, paths.attach()));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    const std::string path = fmt::format("/proc/self/fd/{}/{}", directory.get(), kSocket);
    std::copy(path.begin(), path.end(), address.sun_path);
    net::Fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | flags, 0));
    if (!fd.valid()) return fail(error_from_errno(errno, "socket"));
    if (use(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
        return fail(error_from_errno(errno, fmt::format("{}/{}", paths.attach(), kSocket)));
    }
    return fd;
}

}  // namespace

Result<net::Fd> attach_listen(const PodPaths& paths) {
    if (auto made = ensure_directory(paths.attach()); !made) return fail(made.error());
    return with_address(paths, SOCK_NONBLOCK, [](int fd, const sockaddr* address, socklen_t size) {
        return ::bind(fd, address, size) != 0 ? -1 : ::listen(fd, kBacklog);
    });
}

Result<net::Fd> attach_connect(const PodPaths& paths) {
    // Connecting to a local socket waits only while its backlog is full.
    return with_address(paths, SOCK_NONBLOCK, [](int fd, const sockaddr* address, socklen_t size) {
        return ::connect(fd, address, size);
    });
}

Result<Peer> peer_of(int fd) {
    ucred credentials{};
    socklen_t size = sizeof credentials;
    if (::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &size) != 0) {
        return fail(error_from_errno(errno, "SO_PEERCRED"));
    }
    return Peer{credentials.pid, credentials.uid};
}

Result<void> AttachServer::listen(const PodPaths& paths) {
    auto fd = attach_listen(paths);
    if (!fd) return fail(fd.error());
    listener_ = std::move(*fd);
    return {};
}

void AttachServer::add_to(std::vector<pollfd>& fds) {
    // poll(2) ignores what is negative, so that every session has its two places.
    fds.push_back({listener_.get(), POLLIN, 0});
    for (const Session& session : sessions_) {
        const bool sends = session.backlog() > 0;
        fds.push_back({session.fd.get(), static_cast<short>(sends ? POLLIN | POLLOUT : POLLIN), 0});
        const bool feeds = session.container != nullptr && !session.input.empty();
        fds.push_back({feeds ? session.container->input() : -1, POLLOUT, 0});
    }
}

void AttachServer::handle(const std::vector<pollfd>& fds, std::size_t first) {
    std::size_t at = first + 1;
    for (Session& session : sessions_) {
        const short on_socket = fds[at].revents, on_input = fds[at + 1].revents;
        at += 2;
        if ((on_socket & POLLOUT) != 0) flush(session);
        if ((on_socket & (POLLIN | POLLHUP | POLLERR)) != 0) receive(session);
        if (on_input != 0) pump_input(session);
    }
    if (fds[first].revents != 0) accept();
    sweep();
}

void AttachServer::accept() {
    while (true) {
        net::Fd fd(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
        if (!fd.valid()) return;
        const auto peer = peer_of(fd.get());
        if (!peer || (peer->uid != ::geteuid() && peer->uid != 0)) continue;
        Session& session = sessions_.emplace_back();
        session.fd = std::move(fd);
        if (sessions_.size() > kMaxAttachSessions) {
            end(session, AttachEndReason::Refused,
                fmt::format("{} sessions are attached to this pod already", kMaxAttachSessions));
        }
    }
}

void AttachServer::receive(Session& session) {
    std::array<char, kChunk> chunk;
    const ssize_t got = ::recv(session.fd.get(), chunk.data(), chunk.size(), 0);
    if (got < 0 && would_block()) return;
    if (got <= 0) return leave(session);
    if (session.closing) return;  // what still comes has no reader
    session.received.append(chunk.data(), static_cast<std::size_t>(got));
    std::size_t used = 0;
    while (!session.closing && !session.gone) {
        const auto decoded = decode_attach(std::string_view(session.received).substr(used));
        if (!decoded) return end(session, AttachEndReason::Refused, decoded.error().message);
        if (!*decoded) break;
        used += (*decoded)->size;
        if (!take(session, (*decoded)->message)) {
            return end(session, AttachEndReason::Refused, "a message out of place");
        }
    }
    session.received.erase(0, used);
}

bool AttachServer::take(Session& session, const AttachMessage& message) {
    const bool greeted = session.container != nullptr;
    return std::visit(Overloaded{[&](const AttachHello& m) {
                                     if (greeted) return false;
                                     hello(session, m);
                                     return true;
                                 },
                                 [&](const AttachInput& m) {
                                     if (!greeted || !session.wants.in || session.input_ended) return false;
                                     if (session.input.size() + m.bytes.size() > kAttachWindow) return false;
                                     session.input += m.bytes;
                                     pump_input(session);
                                     return true;
                                 },
                                 [&](const AttachInputEnd&) {
                                     if (!greeted || !session.wants.in || session.input_ended) return false;
                                     session.input_ended = true;
                                     pump_input(session);
                                     return true;
                                 },
                                 [&](const AttachResize& m) {
                                     if (greeted) session.container->resize(m.width, m.height);
                                     return greeted;
                                 },
                                 [](const auto&) { return false; }},
                      message);
}

void AttachServer::hello(Session& session, const AttachHello& message) {
    if (message.version != kAttachVersion) {
        return end(
            session, AttachEndReason::Refused,
            fmt::format("attach protocol version {}; this shim knows {}", message.version, kAttachVersion));
    }
    ShimContainer* container = find_(message.container);
    if (container == nullptr) {
        return end(session, AttachEndReason::NotRunning, "the container does not run");
    }
    session.container = container;
    session.wants = message;
    send(session, AttachWelcome{kAttachVersion, container->tty()});
}

// Hands on what the process takes now; the rest waits for POLLOUT.
void AttachServer::pump_input(Session& session) {
    if (session.container == nullptr) return;
    std::size_t taken = 0;
    while (taken < session.input.size()) {
        const int fd = session.container->input();
        // Closed: by the process itself, or after the first session of a container with stdinOnce.
        const ssize_t put =
            fd < 0 ? -1 : ::write(fd, session.input.data() + taken, session.input.size() - taken);
        if (put < 0 && fd >= 0 && would_block()) break;
        taken = put < 0 ? session.input.size() : taken + static_cast<std::size_t>(put);
    }
    session.input.erase(0, taken);
    if (taken > 0) send(session, AttachCredit{static_cast<std::uint32_t>(taken)});
    if (session.input_ended && session.input.empty()) end_input(session);
}

// As container runtimes do it: where the input is for one session only, its end is the process's, and output
// goes on; else it is the end of the session. A terminal has no end of input of its own.
void AttachServer::end_input(Session& session) {
    if (session.container->input_once() && !session.container->tty()) {
        session.container->close_input();
    } else {
        end(session, AttachEndReason::Ended, "");
    }
}

void AttachServer::output(const ShimContainer& container, LogStream stream, std::string_view bytes) {
    const bool err = stream == LogStream::Stderr;
    for (Session& session : sessions_) {
        if (session.container != &container || session.closing) continue;
        if (err ? !session.wants.err : !session.wants.out) continue;
        for (std::string_view rest = bytes; !rest.empty() && !session.closing;) {
            const std::string_view piece = rest.substr(0, kChunk);
            rest.remove_prefix(piece.size());
            if (session.backlog() + piece.size() > kMaxAttachBacklog) {
                end(session, AttachEndReason::TooSlow,
                    fmt::format(
                        "output was not taken fast enough: {} MiB were waiting and the process waits for "
                        "nobody; all of it is in the log",
                        kMaxAttachBacklog >> 20U));
                break;
            }
            send(session, AttachOutput{err, piece});
        }
    }
}

void AttachServer::ended(const ShimContainer& container) {
    for (Session& session : sessions_) {
        if (session.container != &container) continue;
        end(session, AttachEndReason::Ended, "");
        session.container = nullptr;
    }
}

void AttachServer::send(Session& session, const AttachMessage& message) {
    if (session.closing || session.gone) return;
    encode_attach(message, session.out);
    flush(session);
}

void AttachServer::flush(Session& session) const {
    while (session.backlog() > 0) {
        const ssize_t put = ::send(session.fd.get(), session.out.data() + session.out_at, session.backlog(),
                                   MSG_NOSIGNAL | MSG_DONTWAIT);
        if (put < 0 && errno == EINTR) continue;
        // A peer that has left is seen by receive().
        if (put < 0) break;
        session.out_at += static_cast<std::size_t>(put);
    }
    if (session.out_at == session.out.size() || session.out_at > kMaxAttachBacklog / 2) {
        session.out.erase(0, session.out_at);
        session.out_at = 0;
    }
    // A burst leaves no memory behind.
    if (session.out.empty() && session.out.capacity() > kMaxAttachPayload * 2) session.out.shrink_to_fit();
}

void AttachServer::end(Session& session, AttachEndReason reason, std::string_view text) {
    if (session.closing) return;
    send(session, AttachEnd{reason, text.substr(0, 4096)});
    session.closing = true;
}

// The session is over, by whichever side.
void AttachServer::leave(Session& session) {
    if (session.gone) return;
    session.gone = true;
    if (session.container == nullptr || !session.wants.in) return;
    pump_input(session);
    ShimContainer& container = *session.container;
    if (container.input_once() && !container.tty()) container.close_input();
}

void AttachServer::sweep() {
    for (Session& session : sessions_) {
        if (session.closing && session.backlog() == 0) leave(session);
    }
    sessions_.remove_if([](const Session& session) { return session.gone; });
}

void AttachServer::close(Duration patience) {
    listener_.reset();
    const auto until = std::chrono::steady_clock::now() + patience;
    for (Session& session : sessions_) end(session, AttachEndReason::Ended, "");
    for (sweep(); !sessions_.empty(); sweep()) {
        const auto left = std::chrono::ceil<Duration>(until - std::chrono::steady_clock::now());
        if (left <= Duration::zero()) break;
        std::vector<pollfd> fds;
        add_to(fds);
        ::poll(fds.data(), fds.size(), static_cast<int>(left.count()));
        handle(fds, 0);
    }
    sessions_.clear();
}

}  // namespace k8sgpu::providers::process
