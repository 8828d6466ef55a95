#include "providers/kubernetes/exec.h"

#include <fmt/format.h>

#include "common/encoding.h"
#include "common/log.h"
#include "common/thread.h"
#include "kube/api_client.h"
#include "net/relay.h"
#include "net/text_sink.h"
#include "providers/kubernetes/exec_status.h"
#include "providers/kubernetes/status_map.h"

namespace k8sgpu::providers::kubernetes {
namespace {

constexpr Duration kOpenTimeout{30'000};
constexpr Duration kLinger{1'000};
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

void copy_sizes(ExecIo& io, net::ByteStream& to, const CallContext& ctx) {
    while (true) {
        const auto size = io.next_size(ctx);
        if (!size || !*size) return;
        if (!to.write(fmt::format(R"({{"Width":{},"Height":{}}})", (*size)->width, (*size)->height), ctx))
            return;
    }
}

// Moves all bytes of one session on the calling thread; returns what came on the error stream. Fails when a
// stream cannot be polled.
Result<std::string> join(net::MuxSession& session, const Streams& streams, ExecIo& io,
                         const CallContext& ctx) {
    net::TextSink status(kMaxStatus);
    net::Relay relay;
    int open = 0;
    Result<void> started;
    const auto copy = [&](const StreamPtr& from, net::ByteStream* to) {
        if (!from || !started) return;
        ++open;
        // A caller who takes no more output has left: without a reader the session would only stall.
        auto ticket = relay.copy(*from, *to, [&](const net::Relay::End& end) {
            --open;
            if (end.at_destination) session.cancel();
        });
        if (!ticket) started = fail(ticket.error());
    };
    copy(streams.error, &status);
    copy(streams.out, io.stdout_stream());
    copy(streams.err, io.stderr_stream());
    if (streams.in && started) {
        // Until the caller's stdin ends, which ends the command's stdin but not the command.
        auto ticket = relay.copy(*io.stdin_stream(), *streams.in, [&](const net::Relay::End& end) {
            if (end.error) return;
            if (!streams.in->shut_write()) log().debug("the remote protocol cannot say that stdin has ended");
        });
        if (!ticket) started = fail(ticket.error());
    }
    if (!started) return fail(started.error());

    std::stop_source over;  // sizes may not come for ever
    const std::stop_callback on_stop(ctx.stop(), [&] { over.request_stop(); });
    const std::stop_callback on_ended(session.ended(), [&] { over.request_stop(); });
    Thread sizes;
    if (streams.resize) {
        sizes = Thread("rexec-size", [&](const std::stop_token&) {
            copy_sizes(io, *streams.resize, ctx.with_stop(over.get_token()));
        });
    }
    const auto done = relay.run(ctx, [&] { return open == 0; });
    over.request_stop();
    if (!done) session.cancel();
    return status.text();
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

    const auto text = join(**session, *streams, io, ctx);
    (*session)->close(kLinger);
    if (!text) return fail(text.error());
    if (text->empty()) {
        if (auto alive = ctx.check(); !alive) return fail(alive.error());
    }
    auto status = parse_exec_status(*text);
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
