#include "providers/kubernetes/exec.h"

#include <fmt/format.h>

#include <array>

#include "common/encoding.h"
#include "common/log.h"
#include "common/thread.h"
#include "kube/api_client.h"
#include "providers/kubernetes/exec_status.h"
#include "providers/kubernetes/status_map.h"

namespace k8sgpu::providers::kubernetes {
namespace {

constexpr Duration kOpenTimeout{30'000};
constexpr Duration kLinger{1'000};
constexpr std::size_t kBuffer = 32U << 10U;
constexpr std::size_t kMaxStatus = 64U << 10U;

using StreamPtr = std::shared_ptr<net::MuxStream>;

struct Streams {
    StreamPtr error, in, out, err, resize;
};

Result<Streams> open_streams(net::MuxSession& session, const CommandStreams& wanted, const CallContext& ctx) {
    Streams streams;
    const std::tuple<bool, const char*, StreamPtr*> order[] = {{true, "error", &streams.error},
                                                               {wanted.in, "stdin", &streams.in},
                                                               {wanted.out, "stdout", &streams.out},
                                                               {wanted.err, "stderr", &streams.err},
                                                               {wanted.tty, "resize", &streams.resize}};
    const CallContext opening = ctx.with_timeout(kOpenTimeout);
    for (const auto& [needed, type, slot] : order) {
        if (!needed) continue;
        auto stream = session.open({{"streamtype", type}}, opening);
        if (!stream)
            return fail(stream.error().with_context(fmt::format("opening the remote {} stream", type)));
        *slot = std::move(*stream);
    }
    return streams;
}

// Until the remote side ends. A caller who takes no more output has left: without a reader the session would
// only stall.
void copy_output(net::ByteStream& from, net::ByteStream& to, net::MuxSession& session,
                 const CallContext& ctx) {
    std::array<char, kBuffer> buffer;
    while (true) {
        const auto count = from.read(buffer, ctx);
        if (!count || *count == 0) return;
        if (!to.write({buffer.data(), *count}, ctx)) {
            session.cancel();
            return;
        }
    }
}

// Until the caller's stdin ends, which ends the command's stdin but not the command.
void copy_input(net::ByteStream& from, net::ByteStream& to, const CallContext& ctx) {
    std::array<char, kBuffer> buffer;
    while (true) {
        const auto count = from.read(buffer, ctx);
        if (!count) return;
        if (*count == 0) {
            if (!to.shut_write()) log().debug("the remote protocol cannot say that stdin has ended");
            return;
        }
        if (!to.write({buffer.data(), *count}, ctx)) return;
    }
}

void copy_sizes(ExecIo& io, net::ByteStream& to, const CallContext& ctx) {
    while (true) {
        const auto size = io.next_size(ctx);
        if (!size || !*size) return;
        if (!to.write(fmt::format(R"({{"Width":{},"Height":{}}})", (*size)->width, (*size)->height), ctx))
            return;
    }
}

// Everything up to the stream's end; what is beyond any Status is thrown away.
std::string read_status(net::ByteStream& from, const CallContext& ctx) {
    std::string text;
    std::array<char, 4096> buffer;
    while (true) {
        const auto count = from.read(buffer, ctx);
        if (!count || *count == 0) return text;
        text.append(buffer.data(), std::min(*count, kMaxStatus - text.size()));
    }
}

// Moves all bytes of one session; returns what came on the error stream.
std::string join(net::MuxSession& session, const Streams& streams, ExecIo& io, const CallContext& ctx) {
    std::stop_source input_stop;  // the caller's stdin and sizes may have nothing to say for ever
    const CallContext input = ctx.with_stop(input_stop.get_token());
    const std::stop_callback on_stop(ctx.stop(), [&] {
        input_stop.request_stop();
        session.cancel();
    });
    const std::stop_callback on_ended(session.ended(), [&] { input_stop.request_stop(); });

    Thread in, size, out, err;
    if (streams.out) {
        out = Thread("rexec-out", [&](const std::stop_token&) {
            copy_output(*streams.out, *io.stdout_stream(), session, ctx);
        });
    }
    if (streams.err) {
        err = Thread("rexec-err", [&](const std::stop_token&) {
            copy_output(*streams.err, *io.stderr_stream(), session, ctx);
        });
    }
    if (streams.in) {
        in = Thread("rexec-in",
                    [&](const std::stop_token&) { copy_input(*io.stdin_stream(), *streams.in, input); });
    }
    if (streams.resize) {
        size = Thread("rexec-size", [&](const std::stop_token&) { copy_sizes(io, *streams.resize, input); });
    }
    std::string status = read_status(*streams.error, ctx);
    out.join();
    err.join();
    input_stop.request_stop();
    in.join();
    size.join();
    return status;
}

// A kubelet's plain text comes with the status in front; whoever passes it on has one of its own.
std::string without_status(std::string message, const std::optional<int>& http_status) {
    const std::string prefix = fmt::format("http status {}: ", http_status.value_or(0));
    return message.starts_with(prefix) ? message.substr(prefix.size()) : message;
}

}  // namespace

std::string command_path(const RemoteAddress& pod, const ExecRequest& request,
                         const CommandStreams& streams) {
    const char* verb = request.command.empty() ? "attach" : "exec";
    std::string path = kube::resource_path(kube::resources::kPods, pod.ns, pod.name, verb) + "?";
    if (!request.container.empty()) path += "container=" + url_encode(request.container) + "&";
    for (const std::string& word : request.command) path += "command=" + url_encode(word) + "&";
    return path + fmt::format("stdin={}&stdout={}&stderr={}&tty={}", streams.in, streams.out, streams.err,
                              streams.tty);
}

Result<ExitStatus> RemoteExec::run(const ExecRequest& request, ExecIo& io, const CallContext& ctx) {
    auto pod = locator_.locate(request.pod, ctx);
    if (!pod) return fail(pod.error());
    const CommandStreams wanted{.in = io.stdin_stream() != nullptr,
                                .out = io.stdout_stream() != nullptr,
                                .err = io.stderr_stream() != nullptr && !request.tty,
                                .tty = request.tty};
    auto session = open_command_session(remote_, command_path(*pod, request, wanted), wanted, ctx);
    const auto localized = [&](Error error) {
        error.message = without_status(std::move(error.message), error.http_status);
        error.message = localize(std::move(error.message), request.pod, pod->ns, pod->uid);
        return fail(std::move(error));
    };
    if (!session) return localized(session.error());
    auto streams = open_streams(**session, wanted, ctx);
    if (!streams) return localized(streams.error());

    const std::string text = join(**session, *streams, io, ctx);
    (*session)->close(kLinger);
    if (text.empty()) {
        if (auto alive = ctx.check(); !alive) return fail(alive.error());
    }
    auto status = parse_exec_status(text);
    if (!status) return localized(status.error());
    return status;
}

Result<ExitStatus> RemoteExec::exec(const ExecRequest& request, ExecIo& io, const CallContext& ctx) {
    if (request.command.empty()) return fail(ErrorKind::Invalid, "no command given");
    return run(request, io, ctx);
}

Result<void> RemoteExec::attach(const ExecRequest& request, ExecIo& io, const CallContext& ctx) {
    ExecRequest without_command = request;
    without_command.command.clear();
    auto ended = run(without_command, io, ctx);
    if (!ended) return fail(ended.error());
    return {};
}

}  // namespace k8sgpu::providers::kubernetes
