// From an HTTP request to a stream session: SPDY/3.1 (POST and GET) or WebSocket (GET), the protocol chosen
// as the kubelet does: the first of the client's that we support. The negotiation is pure; accept_* answer
// the request, 101 or an error, on the exchange's thread.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "kubelet_api/exchange.h"
#include "net/mux_session.h"
#include "net/ws/channel_session.h"

namespace k8sgpu::kubelet_api {

// The first of `offered` that is in `supported`. Error: Forbidden when none is, http_status 403, message is
// the body.
Result<std::string> negotiate(const std::vector<std::string>& offered,
                              const std::vector<std::string>& supported);

// The subprotocols offered in a WebSocket request, without one that carries a bearer token.
std::vector<std::string> offered_subprotocols(const net::HttpRequestHead& head);

struct StreamSession {
    std::unique_ptr<net::MuxSession> session;
    std::string protocol;  // as negotiated: "v4.channel.k8s.io", "portforward.k8s.io", "" on a bare WebSocket
    std::string transport;  // "spdy", "websocket"; for metrics
};

// Nothing when the request was answered with an error.
std::optional<StreamSession> accept_spdy(Exchange& exchange, ApiContext& api,
                                         const std::vector<std::string>& supported);
// For channel protocols; `channels` are the streams that the client asked for in the query. `greet`: see
// net::ws::ChannelOptions.
std::optional<StreamSession> accept_channels(Exchange& exchange, ApiContext& api,
                                             const std::vector<std::string>& supported,
                                             std::vector<net::ws::Channel> channels, bool greet);
// SPDY inside WebSocket messages (KEP-4006): the client offers the names of `supported` with the prefix
// "SPDY/3.1+".
std::optional<StreamSession> accept_tunnel(Exchange& exchange, ApiContext& api,
                                           const std::vector<std::string>& supported);
// Whether a WebSocket request offers a tunnel.
bool offers_tunnel(const net::HttpRequestHead& head);

}  // namespace k8sgpu::kubelet_api
