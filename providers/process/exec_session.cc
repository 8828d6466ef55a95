#include "providers/process/exec_session.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "common/file.h"
#include "common/thread.h"
#include "net/fd.h"
#include "providers/process/pidfd.h"
#include "providers/process/terminal.h"

namespace k8sgpu::providers::process {
namespace {

constexpr std::size_t kChunk = 32768;
constexpr Duration kHangUpPatience{1000};
// A terminal hands output on by a kernel worker: after the end of the command some may still come.
constexpr int kTerminalSettleMs = 100;
constexpr Duration kLongestPoll{1000};  // how late a passed deadline is seen
// More than a pipe holds: beyond this it is a child left behind that writes, not the command that has ended.
constexpr std::size_t kMaxAfterEnd = 1U << 20U;

using net::Fd;

struct Ends {
    Fd ours, theirs;
};

Result<Ends> make_pipe(bool we_read) {
    std::array<int, 2> fds{};
    if (::pipe2(fds.data(), O_CLOEXEC) != 0) return fail(error_from_errno(errno, "pipe"));
    Ends ends{Fd(fds[we_read ? 0 : 1]), Fd(fds[we_read ? 1 : 0])};
    ::fcntl(ends.ours.get(), F_SETFL, O_NONBLOCK);
    return ends;
}

class Session {
  public:
    Session(ExecIo& io, const CallContext& ctx) : io_(io), ctx_(ctx), wake_(::eventfd(0, EFD_CLOEXEC)) {}

    Result<ExitStatus> run(SpawnRequest request, bool tty, const OrphanSink& orphan) {
        if (auto started = start(std::move(request), tty); !started) return fail(started.error());
        {
            // The client's end reaches every poll() through the event and every stream through the token.
            const std::stop_callback linked(ctx_.stop(), [this] { hang_up(); });
            Thread in, size, err;
            if (io_.stdin_stream() != nullptr) in = Thread("exec-in", [this](std::stop_token) { pump_in(); });
            if (tty) size = Thread("exec-size", [this](std::stop_token) { pump_sizes(); });
            if (!tty)
                err = Thread("exec-err", [this](std::stop_token) { pump_out(err_, io_.stderr_stream(), 0); });
            pump_out(out_, io_.stdout_stream(), tty ? kTerminalSettleMs : 0);
            await_exit();
            err.join();
            hang_up();
        }
        return finish(orphan);
    }

  private:
    Result<void> start(SpawnRequest request, bool tty) {
        if (wake_.get() < 0) return fail(error_from_errno(errno, "eventfd"));
        Fd in, out, err;
        if (tty) {
            auto terminal = open_terminal();
            if (!terminal) return fail(terminal.error());
            out_ = std::move(terminal->ours);
            in = std::move(terminal->theirs);
            request.in = request.out = request.err = in.get();
            request.controlling_tty = true;
        } else {
            auto for_in = make_pipe(false), for_out = make_pipe(true), for_err = make_pipe(true);
            if (!for_in || !for_out || !for_err) return fail(ErrorKind::Internal, "out of file descriptors");
            if (io_.stdin_stream() != nullptr) {
                in_ = std::move(for_in->ours);
                in = std::move(for_in->theirs);
            }
            out_ = std::move(for_out->ours);
            err_ = std::move(for_err->ours);
            out = std::move(for_out->theirs);
            err = std::move(for_err->theirs);
            request.in = in.get();
            request.out = out.get();
            request.err = err.get();
        }
        auto pid = spawn(request);
        if (!pid) return fail(pid.error());
        pid_ = *pid;
        exited_ = Fd(open_pidfd(pid_));
        if (exited_.get() >= 0) return {};
        const Error error = error_from_errno(errno, "pidfd_open");
        ::kill(-pid_, SIGKILL);
        ::waitpid(pid_, nullptr, 0);
        return fail(error);
    }

    bool client_gone() const { return stop_.stop_requested(); }

    void hang_up() {
        stop_.request_stop();
        const std::uint64_t one = 1;
        [[maybe_unused]] const ssize_t put = ::write(wake_.get(), &one, sizeof one);
    }

    CallContext stream_context() const { return ctx_.with_stop(stop_.get_token()); }

    // True when `fd` is ready; false when the session is over, the command has ended (with `watch_exit`) or
    // `timeout_ms` (if not negative) has passed.
    bool wait_for(int fd, short events, bool watch_exit, int timeout_ms) {
        while (true) {
            if (!ctx_.check()) hang_up();
            std::array<pollfd, 3> fds = {
                {{fd, events, 0}, {wake_.get(), POLLIN, 0}, {watch_exit ? exited_.get() : -1, POLLIN, 0}}};
            const auto longest = std::min(ctx_.remaining(), kLongestPoll);
            const int got = ::poll(fds.data(), fds.size(),
                                   timeout_ms >= 0 ? timeout_ms : static_cast<int>(longest.count()));
            if (got < 0 && errno != EINTR) return false;
            if (got > 0 && fds[1].revents != 0) return false;
            if (got > 0 && fds[0].revents != 0) return true;
            if (got > 0 && fds[2].revents != 0) return false;
            if (got == 0 && timeout_ms >= 0) return false;
        }
    }

    void pump_out(Fd& fd, net::ByteStream* to, int settle_ms) {
        std::array<char, kChunk> chunk;
        bool ended = false;  // the command; what it wrote before is still read
        std::size_t after_end = 0;
        while (!client_gone() && after_end <= kMaxAfterEnd) {
            if (!wait_for(fd.get(), POLLIN, !ended, ended ? settle_ms : -1)) {
                if (ended || client_gone()) break;
                ended = true;
                continue;
            }
            const ssize_t got = ::read(fd.get(), chunk.data(), chunk.size());
            if (got < 0 && (errno == EAGAIN || errno == EINTR)) continue;
            if (ended && got > 0) after_end += static_cast<std::size_t>(got);
            if (got <= 0) break;  // EIO is how a terminal says that its last process has left
            if (to == nullptr) continue;
            if (!to->write({chunk.data(), static_cast<std::size_t>(got)}, stream_context())) hang_up();
        }
    }

    void pump_in() {
        // A command that has closed its input answers EPIPE, not a signal.
        sigset_t pipe_signal;
        ::sigemptyset(&pipe_signal);
        ::sigaddset(&pipe_signal, SIGPIPE);
        ::pthread_sigmask(SIG_BLOCK, &pipe_signal, nullptr);
        const int fd = in_.get() >= 0 ? in_.get() : out_.get();
        std::array<char, kChunk> chunk;
        while (!client_gone()) {
            const auto got = io_.stdin_stream()->read(chunk, stream_context());
            if (!got || *got == 0) break;
            std::string_view rest(chunk.data(), *got);
            while (!rest.empty()) {
                const ssize_t put = ::write(fd, rest.data(), rest.size());
                if (put >= 0) {
                    rest.remove_prefix(static_cast<std::size_t>(put));
                } else if (errno != EINTR &&
                           (errno != EAGAIN || !wait_for(fd, POLLOUT, /*watch_exit=*/true, -1))) {
                    in_.reset();
                    return;
                }
            }
        }
        in_.reset();  // half-close; a terminal has no such thing
    }

    void pump_sizes() {
        while (!client_gone()) {
            const auto size = io_.next_size(stream_context());
            if (!size || !*size) return;
            set_terminal_size(out_.get(), (*size)->width, (*size)->height);
        }
    }

    // The command may have closed its output long before it ends.
    void await_exit() {
        while (!client_gone() && wait_for(exited_.get(), POLLIN, false, -1) == false) {
        }
    }

    Result<ExitStatus> finish(const OrphanSink& orphan) {
        int status = 0;
        pid_t reaped = ::waitpid(pid_, &status, WNOHANG);
        if (reaped == 0) {
            ::kill(-pid_, SIGHUP);
            pollfd wait{exited_.get(), POLLIN, 0};
            ::poll(&wait, 1, static_cast<int>(kHangUpPatience.count()));
            reaped = ::waitpid(pid_, &status, WNOHANG);
            if (reaped == 0) orphan(pid_);
            const auto ended = ctx_.check();
            return ended ? fail(ErrorKind::Cancelled, "the client has gone") : fail(ended.error());
        }
        if (WIFSIGNALED(status)) return ExitStatus{128 + WTERMSIG(status)};
        return ExitStatus{WEXITSTATUS(status)};
    }

    ExecIo& io_;
    const CallContext& ctx_;
    Fd wake_, exited_;
    Fd in_, out_, err_;  // ours; with a terminal only out_, for both ways
    pid_t pid_ = -1;
    std::stop_source stop_;  // the session is over, for whatever reason
};

}  // namespace

Result<ExitStatus> run_exec(SpawnRequest request, bool tty, ExecIo& io, const CallContext& ctx,
                            const OrphanSink& orphan) {
    return Session(io, ctx).run(std::move(request), tty, orphan);
}

}  // namespace k8sgpu::providers::process
