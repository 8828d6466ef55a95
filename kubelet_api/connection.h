// One connection from its TLS handshake to its end: reads heads, finds out who calls and whether they may,
// hands requests to routes, keeps the connection alive between them.
//
// HTTP/1.1 is written here rather than taken from cpp-httplib: TLS, heads, upgrades and streamed responses
// are ours in any case, requests have no bodies worth reading, and what would remain of httplib (a fixed
// pool, five- second socket time-outs, a private virtual to override) is what would have to be worked around.
//
// Runs on its own thread, "api-conn-<n>"; everything it refers to outlives it.
#pragma once

#include <string>

#include "kubelet_api/exchange.h"
#include "kubelet_api/hangup_watcher.h"
#include "net/fd.h"
#include "net/tls_stream.h"

namespace k8sgpu::kubelet_api {

struct ConnectionServices {
    ApiContext& api;
    net::TlsServerContext& tls;
    Authenticator& authenticator;
    Authorizer& authorizer;
    HangupWatcher& watcher;
};

class Connection {
  public:
    Connection(ConnectionServices services, int number) : services_(services), number_(number) {}

    // Serves until the peer leaves, the session is stopped or a limit is hit. `refuse`: the server is full;
    // one answer 503 and the end.
    void serve(net::Fd fd, Session& session, bool refuse);

  private:
    enum class Next { KeepOpen, Close };

    Next serve_one(Session& session);
    Next answer(const net::HttpRequestHead& head, Session& session);
    void route(const net::HttpRequestHead& head, const std::vector<std::string>& segments, const User& user,
               ResponseWriter& response, Session& session, const CallContext& ctx);
    Result<void> wait_for_bytes(const CallContext& ctx);
    Result<void> skip_body(const net::HttpRequestHead& head, const CallContext& ctx);
    void refuse(const Error& error, Session& session);
    void note_certificates();
    CallContext until_stopped(const Session& session) const;
    const ServerLimits& limits() const { return services_.api.options.limits; }

    ConnectionServices services_;
    int number_;
    std::string peer_;
    std::unique_ptr<net::TlsStream> stream_;  // null once a handler took it
    std::unique_ptr<HangupWatcher::Guard> watch_;
    std::string early_;  // read, not yet consumed
    std::vector<std::string> certificates_;
    bool known_ = false;  // some request was authenticated
};

// Pure: the bearer token of a request: the Authorization header, or the WebSocket subprotocol
// base64url.bearer.authorization.k8s.io.<token> of clients that cannot set headers (KEP of kube-apiserver's
// websocket authenticator). Invalid: a subprotocol that does not decode, or that comes without another one.
Result<std::optional<std::string>> bearer_token(const net::HttpRequestHead& head);

inline constexpr std::string_view kBearerProtocolPrefix = "base64url.bearer.authorization.k8s.io.";

}  // namespace k8sgpu::kubelet_api
