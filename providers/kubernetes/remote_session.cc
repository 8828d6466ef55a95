#include "providers/kubernetes/remote_session.h"

#include <fmt/format.h>

#include "net/spdy/session.h"
#include "net/ws/channel_session.h"
#include "net/ws/handshake.h"
#include "net/ws/message_stream.h"

namespace k8sgpu::providers::kubernetes {
namespace {

// As kubectl does: often enough for load balancers, long enough for a slow hop.
constexpr Duration kPing{5'000};
constexpr Duration kSilence{61'000};

std::string header(const kube::Headers& headers, const std::string& name) {
    const auto found = headers.find(name);
    return found == headers.end() ? "" : found->second;
}

// The server, or a proxy before it, does not take this kind of upgrade, or says something that may mean so.
// Nothing was started: a command begins after the upgrade only.
bool try_the_next(const Error& error) {
    if (error.kind == ErrorKind::Protocol) return true;
    switch (error.http_status.value_or(0)) {
        case 400:
        case 403:
        case 404:
        case 405:
        case 426:
        case 501:
            return true;
        default:
            return false;
    }
}

Result<std::unique_ptr<net::ByteStream>> upgrade_to_websocket(kube::Transport& remote,
                                                              const std::string& path,
                                                              const std::string& protocol,
                                                              const CallContext& ctx) {
    const std::string key = net::ws::new_client_key();
    kube::Request request;
    request.path = path;
    request.headers = {{"connection", "Upgrade"},
                       {"upgrade", "websocket"},
                       {"sec-websocket-version", "13"},
                       {"sec-websocket-key", key},
                       {"sec-websocket-protocol", protocol}};
    auto upgraded = remote.upgrade(request, ctx);
    if (!upgraded) return fail(upgraded.error());
    if (header(upgraded->headers, "sec-websocket-accept") != net::ws::accept_key(key)) {
        return fail(ErrorKind::Protocol, "the answer to the websocket upgrade does not fit its key");
    }
    const std::string chosen = header(upgraded->headers, "sec-websocket-protocol");
    if (chosen != protocol) {
        return fail(ErrorKind::Protocol,
                    fmt::format("the server chose websocket protocol \"{}\", not \"{}\"", chosen, protocol));
    }
    return std::move(upgraded->stream);
}

Result<std::unique_ptr<net::ByteStream>> upgrade_to_spdy(kube::Transport& remote, const std::string& path,
                                                         const std::string& protocol,
                                                         const CallContext& ctx) {
    kube::Request request;
    request.method = "POST";
    request.path = path;
    request.headers = {
        {"connection", "Upgrade"}, {"upgrade", "SPDY/3.1"}, {"x-stream-protocol-version", protocol}};
    auto upgraded = remote.upgrade(request, ctx);
    if (!upgraded) return fail(upgraded.error());
    const std::string chosen = header(upgraded->headers, "x-stream-protocol-version");
    if (chosen != protocol) {
        return fail(ErrorKind::Protocol,
                    fmt::format("the server chose stream protocol \"{}\", not \"{}\"", chosen, protocol));
    }
    return std::move(upgraded->stream);
}

std::unique_ptr<net::MuxSession> spdy_session(std::unique_ptr<net::ByteStream> stream, Clock& clock) {
    net::spdy::SpdyOptions options;
    options.role = net::MuxRole::Client;
    options.name = "rspdy";
    options.ping_interval = kPing;
    options.silence_limit = kSilence;
    return std::make_unique<net::spdy::SpdySession>(std::move(stream), "", clock, options);
}

Result<std::unique_ptr<net::MuxSession>> websocket_command(kube::Transport& remote, const std::string& path,
                                                           const CommandStreams& streams,
                                                           net::ws::ChannelProtocol protocol,
                                                           const CallContext& ctx) {
    auto stream = upgrade_to_websocket(remote, path, std::string(net::ws::to_string(protocol)), ctx);
    if (!stream) return fail(stream.error());
    net::ws::ChannelOptions options = net::ws::client_channel_options(protocol);
    options.name = "rws";
    auto channels = net::ws::remote_command_channels(
        net::MuxRole::Client,
        {.in = streams.in, .out = streams.out, .err = streams.err, .resize = streams.tty});
    return std::unique_ptr<net::MuxSession>(std::make_unique<net::ws::ChannelSession>(
        std::move(*stream), "", ctx.clock(), std::move(channels), options));
}

}  // namespace

Result<std::unique_ptr<net::MuxSession>> open_command_session(kube::Transport& remote,
                                                              const std::string& path,
                                                              const CommandStreams& streams,
                                                              const CallContext& ctx) {
    auto session = websocket_command(remote, path, streams, net::ws::ChannelProtocol::BinaryV5, ctx);
    if (session || !try_the_next(session.error())) return session;

    auto stream = upgrade_to_spdy(remote, path, "v4.channel.k8s.io", ctx);
    if (stream) return spdy_session(std::move(*stream), ctx.clock());
    if (!try_the_next(stream.error())) return fail(stream.error());

    session = websocket_command(remote, path, streams, net::ws::ChannelProtocol::BinaryV4, ctx);
    // What the last protocol says about itself helps less than what the server said about the request.
    if (!session && session.error().kind == ErrorKind::Protocol) return fail(stream.error());
    return session;
}

Result<std::unique_ptr<net::MuxSession>> open_forward_session(kube::Transport& remote,
                                                              const std::string& path,
                                                              const CallContext& ctx) {
    auto tunnel = upgrade_to_websocket(remote, path, "SPDY/3.1+portforward.k8s.io", ctx);
    if (tunnel) {
        return spdy_session(
            std::make_unique<net::ws::MessageStream>(std::move(*tunnel), "", net::MuxRole::Client),
            ctx.clock());
    }
    if (!try_the_next(tunnel.error())) return fail(tunnel.error());
    auto stream = upgrade_to_spdy(remote, path, "portforward.k8s.io", ctx);
    if (!stream) return fail(stream.error());
    return spdy_session(std::move(*stream), ctx.clock());
}

}  // namespace k8sgpu::providers::kubernetes
