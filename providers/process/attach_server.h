// The shim's side of attach: sessions on the pod's socket, each with one run of one container. Part of the
// shim's poll loop; single-threaded.
//
// A process and its log never wait for a session: output that a session does not take is kept up to a bound,
// then the session is told so and sent away. Input waits in the session until the process reads it.
#pragma once

#include <poll.h>

#include <functional>
#include <list>
#include <string>
#include <vector>

#include "net/fd.h"
#include "providers/process/attach_protocol.h"
#include "providers/process/paths.h"
#include "providers/process/shim_container.h"

namespace k8sgpu::providers::process {

inline constexpr std::size_t kMaxAttachBacklog = 8U << 20U;  // bytes of output that one session may be behind
inline constexpr std::size_t kMaxAttachSessions = 16;        // of a pod

class AttachServer {
  public:
    // The running container of that name, or null.
    using Find = std::function<ShimContainer*(std::string_view container)>;

    explicit AttachServer(Find find) : find_(std::move(find)) {}

    // Makes the socket. Without one (an old kernel, a full disk) the pod runs all the same.
    Result<void> listen(const PodPaths& paths);

    // What poll(2) shall wait for, appended; then what it said about them, from `first` on.
    void add_to(std::vector<pollfd>& fds);
    void handle(const std::vector<pollfd>& fds, std::size_t first);

    // The container printed something.
    void output(const ShimContainer& container, LogStream stream, std::string_view bytes);
    // This run is over and all its output was handed to output().
    void ended(const ShimContainer& container);

    // Gives the last sessions a moment to take what is theirs; then nobody can attach any more.
    void close(Duration patience);

  private:
    struct Session {
        net::Fd fd;
        ShimContainer* container = nullptr;  // null before Hello, and once it has ended
        AttachHello wants;
        std::string received;      // at most one incomplete frame
        std::string input;         // not yet taken by the process; at most kAttachWindow
        bool input_ended = false;  // nothing more will come
        std::string out;
        std::size_t out_at = 0;  // what of `out` was sent
        bool closing = false;    // nothing more is queued; closed once `out` is sent
        bool gone = false;

        std::size_t backlog() const { return out.size() - out_at; }
    };

    void accept();
    void receive(Session& session);
    bool take(Session& session, const AttachMessage& message);
    void hello(Session& session, const AttachHello& message);
    void pump_input(Session& session);
    void end_input(Session& session);
    void send(Session& session, const AttachMessage& message);
    void flush(Session& session) const;
    void end(Session& session, AttachEndReason reason, std::string_view text);
    void leave(Session& session);
    void sweep();

    Find find_;
    net::Fd listener_;
    std::list<Session> sessions_;
};

// A stream socket of the attach directory, bound (listening) or connected. The path may be of any length.
Result<net::Fd> attach_listen(const PodPaths& paths);
Result<net::Fd> attach_connect(const PodPaths& paths);

// Who is at the other end of a connected socket.
struct Peer {
    pid_t pid = 0;
    uid_t uid = 0;
};
Result<Peer> peer_of(int fd);

}  // namespace k8sgpu::providers::process
