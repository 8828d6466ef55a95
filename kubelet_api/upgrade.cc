#include "kubelet_api/upgrade.h"

#include <fmt/format.h>

#include <algorithm>

#include "kubelet_api/connection.h"
#include "net/spdy/session.h"
#include "net/ws/handshake.h"
#include "net/ws/message_stream.h"

namespace k8sgpu::kubelet_api {

namespace {

constexpr std::string_view kVersionHeader = "x-stream-protocol-version";
constexpr std::size_t kStreamBuffer = 64U << 10U;
constexpr std::string_view kTunnelPrefix = "SPDY/3.1+";

std::string session_name(const Exchange& exchange) {
    return fmt::format("api-{}", exchange.connection_number % 100'000);
}

void refuse(Exchange& exchange, int status, const std::string& text, net::HeaderLines more = {}) {
    (void)exchange.response.text(status, text, exchange.ctx, std::move(more));
}

// Writes the 101 and gives the connection away; nothing when the client has left.
std::optional<RawConnection> switch_protocols(Exchange& exchange, const std::string& head) {
    RawConnection raw = exchange.take_connection(101);
    if (!raw.stream->write(head, exchange.ctx)) return std::nullopt;
    return raw;
}

bool valid_websocket(Exchange& exchange) {
    auto valid = net::ws::check_upgrade_request(exchange.head);
    if (!valid)
        refuse(exchange, valid.error().http_status.value_or(400),
               "unable to upgrade: " + valid.error().message);
    return valid.has_value();
}

net::spdy::SpdyOptions spdy_options(const Exchange& exchange, const ApiContext& api) {
    net::spdy::SpdyOptions options;
    options.name = session_name(exchange);
    options.idle_timeout = api.options.limits.stream_idle;
    options.stream_buffer = kStreamBuffer;
    options.spare = std::make_shared<net::BufferPool>(api.options.limits.spare_of_session, api.spare);
    return options;
}

}  // namespace

Result<std::string> negotiate(const std::vector<std::string>& offered,
                              const std::vector<std::string>& supported) {
    for (const std::string& name : offered) {
        if (std::find(supported.begin(), supported.end(), name) != supported.end()) return name;
    }
    return fail(
        Error{ErrorKind::Forbidden,
              fmt::format("unable to upgrade: unable to negotiate protocol: client supports [{}], server "
                          "accepts [{}]",
                          fmt::join(offered, " "), fmt::join(supported, " ")),
              403,
              {}});
}

std::vector<std::string> offered_subprotocols(const net::HttpRequestHead& head) {
    auto offered = head.headers.list("sec-websocket-protocol");
    const auto is_bearer = [](const std::string& name) { return name.starts_with(kBearerProtocolPrefix); };
    offered.erase(std::remove_if(offered.begin(), offered.end(), is_bearer), offered.end());
    return offered;
}

std::optional<StreamSession> accept_spdy(Exchange& exchange, ApiContext& api,
                                         const std::vector<std::string>& supported) {
    const net::HttpRequestHead& head = exchange.head;
    if (!head.is_upgrade_to("SPDY/3.1")) {
        std::vector<std::string_view> names;  // values may be secrets
        for (const auto& [name, value] : head.headers.lines()) names.push_back(name);
        refuse(
            exchange, 400,
            fmt::format("unable to upgrade: missing upgrade headers in request: {}", fmt::join(names, " ")));
        return std::nullopt;
    }
    if (!head.headers.has(kVersionHeader)) {
        refuse(exchange, 400, "unable to upgrade: X-Stream-Protocol-Version is required");
        return std::nullopt;
    }
    auto chosen = negotiate(head.headers.list(kVersionHeader), supported);
    if (!chosen) {
        net::HeaderLines accepted;
        for (const std::string& name : supported)
            accepted.emplace_back("X-Accepted-Stream-Protocol-Versions", name);
        refuse(exchange, 403, chosen.error().message, std::move(accepted));
        return std::nullopt;
    }
    auto raw =
        switch_protocols(exchange, net::write_response_head(101, {{"Connection", "Upgrade"},
                                                                  {"Upgrade", "SPDY/3.1"},
                                                                  {"X-Stream-Protocol-Version", *chosen}}));
    if (!raw) return std::nullopt;
    return StreamSession{
        std::make_unique<net::spdy::SpdySession>(std::move(raw->stream), std::move(raw->early), api.clock,
                                                 spdy_options(exchange, api)),
        std::move(*chosen), "spdy"};
}

std::optional<StreamSession> accept_channels(Exchange& exchange, ApiContext& api,
                                             const std::vector<std::string>& supported,
                                             std::vector<net::ws::Channel> channels, bool greet) {
    if (!valid_websocket(exchange)) return std::nullopt;
    std::string chosen;  // a client that offers nothing speaks the oldest protocol
    const auto offered = offered_subprotocols(exchange.head);
    if (!offered.empty()) {
        auto agreed = negotiate(offered, supported);
        if (!agreed) {
            refuse(exchange, 403, agreed.error().message);
            return std::nullopt;
        }
        chosen = std::move(*agreed);
    }
    const auto protocol = net::ws::channel_protocol(chosen);
    if (!protocol) {
        refuse(exchange, 403, "unable to upgrade: unknown protocol " + chosen);
        return std::nullopt;
    }
    auto raw = switch_protocols(exchange, net::ws::write_upgrade_response(exchange.head, chosen));
    if (!raw) return std::nullopt;
    net::ws::ChannelOptions options;
    options.protocol = *protocol;
    options.name = session_name(exchange);
    options.idle_timeout = api.options.limits.stream_idle;
    options.greet = greet;
    options.stream_buffer = kStreamBuffer;
    return StreamSession{
        std::make_unique<net::ws::ChannelSession>(std::move(raw->stream), std::move(raw->early), api.clock,
                                                  std::move(channels), options),
        std::move(chosen), "websocket"};
}

bool offers_tunnel(const net::HttpRequestHead& head) {
    const auto offered = offered_subprotocols(head);
    return std::any_of(offered.begin(), offered.end(),
                       [](const std::string& name) { return name.starts_with(kTunnelPrefix); });
}

std::optional<StreamSession> accept_tunnel(Exchange& exchange, ApiContext& api,
                                           const std::vector<std::string>& supported) {
    if (!valid_websocket(exchange)) return std::nullopt;
    std::vector<std::string> offered;
    for (const std::string& name : offered_subprotocols(exchange.head)) {
        if (name.starts_with(kTunnelPrefix)) offered.push_back(name.substr(kTunnelPrefix.size()));
    }
    if (offered.empty()) {
        refuse(exchange, 400, "unable to upgrade: no tunneling spdy protocols provided");
        return std::nullopt;
    }
    auto chosen = negotiate(offered, supported);
    if (!chosen) {
        refuse(exchange, 403, chosen.error().message);
        return std::nullopt;
    }
    const std::string answer = std::string(kTunnelPrefix) + *chosen;
    auto raw = switch_protocols(exchange, net::ws::write_upgrade_response(exchange.head, answer));
    if (!raw) return std::nullopt;
    auto tunnel = std::make_unique<net::ws::MessageStream>(std::move(raw->stream), std::move(raw->early),
                                                           net::MuxRole::Server);
    return StreamSession{std::make_unique<net::spdy::SpdySession>(std::move(tunnel), "", api.clock,
                                                                  spdy_options(exchange, api)),
                         std::move(*chosen), "websocket-tunnel"};
}

}  // namespace k8sgpu::kubelet_api
