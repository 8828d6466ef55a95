#include "providers/process/attach_session.h"

#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <condition_variable>
#include <mutex>

#include "common/thread.h"
#include "net/socket_stream.h"
#include "providers/process/attach_server.h"

namespace k8sgpu::providers::process {
namespace {

constexpr std::size_t kChunk = 32768;

class Session {
  public:
    Session(net::Fd socket, ExecIo& io, const CallContext& ctx)
        : socket_(std::move(socket)), io_(io), ctx_(ctx) {}

    Result<void> run(const std::string& container) {
        AttachHello hello;
        hello.in = io_.stdin_stream() != nullptr;
        hello.out = io_.stdout_stream() != nullptr;
        hello.err = io_.stderr_stream() != nullptr;
        hello.container = container;
        // A shim that takes nobody has said why and closed: its word is still to be read.
        (void)send(hello, ctx_);

        const std::stop_callback follow(ctx_.stop(), [this] { stop_.request_stop(); });
        const CallContext inner = ctx_.with_stop(stop_.get_token());
        Thread in, size;
        Result<void> done;
        while (true) {
            auto message = receive(inner);
            if (!message) {
                done = fail(message.error());
                break;
            }
            if (const auto* welcome = std::get_if<AttachWelcome>(*message)) {
                if (hello.in) in = Thread("att-in", [this, inner](std::stop_token) { pump_in(inner); });
                if (welcome->tty)
                    size = Thread("att-size", [this, inner](std::stop_token) { pump_sizes(inner); });
            } else if (const auto* output = std::get_if<AttachOutput>(*message)) {
                done = write(*output, inner);
            } else if (const auto* credit = std::get_if<AttachCredit>(*message)) {
                const std::scoped_lock lock(mutex_);
                window_ += credit->bytes;
                credited_.notify_all();
            } else if (const auto* end = std::get_if<AttachEnd>(*message)) {
                done = explain(*end);
                break;
            }
            if (!done) break;
        }
        stop_.request_stop();
        in.join();
        size.join();
        if (auto alive = ctx_.check(); !alive) return alive;
        return done;
    }

  private:
    Result<void> send(const AttachMessage& message, const CallContext& ctx) {
        std::string bytes;
        encode_attach(message, bytes);
        // The window leaves room in the socket: nothing waits here for a process that does not read.
        const std::scoped_lock lock(sending_);
        return socket_.write(bytes, ctx);
    }

    // The next message; valid until the next call.
    Result<const AttachMessage*> receive(const CallContext& ctx) {
        received_.erase(0, used_);
        used_ = 0;
        while (true) {
            auto decoded = decode_attach(received_);
            if (!decoded) return fail(decoded.error().with_context("the shim's answer"));
            if (*decoded) {
                used_ = (*decoded)->size;
                message_ = std::move((*decoded)->message);
                return &message_;
            }
            std::array<char, kChunk> chunk;
            const auto got = socket_.read(chunk, ctx);
            if (!got) return fail(got.error());
            if (*got == 0) return fail(ErrorKind::Unavailable, "the shim has ended the session");
            received_.append(chunk.data(), *got);
        }
    }

    Result<void> write(const AttachOutput& output, const CallContext& ctx) {
        net::ByteStream* to = output.err ? io_.stderr_stream() : io_.stdout_stream();
        return to == nullptr ? Result<void>() : to->write(output.bytes, ctx);
    }

    static Result<void> explain(const AttachEnd& end) {
        const std::string text(end.text);
        switch (end.reason) {
            case AttachEndReason::Ended:
                return {};
            case AttachEndReason::NotRunning:
                return fail(ErrorKind::NotFound, text);
            default:
                return fail(ErrorKind::Unavailable, text);
        }
    }

    void pump_in(const CallContext& ctx) {
        std::array<char, kChunk> chunk;
        while (true) {
            std::size_t room = 0;
            {
                std::unique_lock lock(mutex_);
                ctx.clock().wait_until(credited_, lock, ctx.deadline(), ctx.stop(),
                                       [this] { return window_ > 0; });
                room = std::min<std::size_t>(window_, chunk.size());
            }
            if (!ctx.check()) return;
            const auto got = io_.stdin_stream()->read(std::span(chunk.data(), room), ctx);
            if (!got) return;
            if (*got == 0) {
                (void)send(AttachInputEnd{}, ctx);
                return;
            }
            {
                const std::scoped_lock lock(mutex_);
                window_ -= *got;
            }
            if (!send(AttachInput{{chunk.data(), *got}}, ctx)) return;
        }
    }

    void pump_sizes(const CallContext& ctx) {
        while (true) {
            const auto size = io_.next_size(ctx);
            if (!size || !*size) return;
            if (!send(AttachResize{(*size)->width, (*size)->height}, ctx)) return;
        }
    }

    net::SocketStream socket_;
    ExecIo& io_;
    const CallContext& ctx_;
    std::stop_source stop_;  // the session is over, for whatever reason
    std::mutex sending_;
    std::mutex mutex_;
    std::condition_variable_any credited_;
    std::size_t window_ = kAttachWindow;
    std::string received_;
    std::size_t used_ = 0;
    AttachMessage message_;
};

}  // namespace

Result<void> run_attach(const PodPaths& paths, pid_t shim, const std::string& container, ExecIo& io,
                        const CallContext& ctx) {
    auto socket = attach_connect(paths);
    if (!socket) {
        if (socket.error().kind == ErrorKind::NotFound) {
            return fail(ErrorKind::Unsupported,
                        "the pod was started by a version that cannot attach; kubectl exec and logs work");
        }
        return fail(ErrorKind::Unavailable, socket.error().message);
    }
    const auto peer = peer_of(socket->get());
    if (!peer) return fail(peer.error());
    if (peer->pid != shim || (peer->uid != ::geteuid() && peer->uid != 0)) {
        return fail(ErrorKind::Forbidden,
                    fmt::format("process {} of user {} holds the pod's socket; it should be process {}",
                                peer->pid, peer->uid, shim));
    }
    return Session(std::move(*socket), io, ctx).run(container);
}

}  // namespace k8sgpu::providers::process
