// The node's HTTPS face, port 10250: what kubectl logs, exec and every scraper reach through the API server.
//
// The owner constructs it, start()s it once and stop()s it (or destroys it) before anything that it refers
// to goes. It owns the thread "api-accept" and up to limits.max_connections threads "api-conn-<n>", one per
// connection; an exec session adds the reader thread of its stream session. start(), stop(), cancel_pod() and
// port() may be called from any thread.
//
//   accept ─▶ TLS ─▶ head ─▶ authenticate ─▶ authorize ─▶ route ─┬▶ response ─▶ next request (keep-alive)
//                                                                └▶ upgrade  ─▶ stream session ─▶ close
//
// HTTP is our own small writer (http_connection.h says why) and not cpp-httplib.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "common/clock.h"
#include "common/json.h"
#include "common/metrics.h"
#include "common/result.h"
#include "kubelet_api/authn.h"
#include "kubelet_api/authz.h"
#include "kubelet_api/pod_lookup.h"

namespace k8sgpu::net {
class TlsServerContext;
}

namespace k8sgpu::kubelet_api {

struct ServerLimits {
    std::size_t max_connections = 2048;      // one more is answered 503 and closed
    std::size_t max_head_bytes = 1U << 20U;  // request line and headers; beyond: 431
    std::size_t max_body_bytes = 1U << 20U;  // beyond: 413; no route of ours needs a body
    Duration handshake{10'000};              // TLS handshake
    Duration head{30'000};                   // from the first byte of a head to its end; beyond: 408
    Duration idle{90'000};             // between two requests; before the first, `head` counts if shorter
    Duration decision{30'000};         // finding out who calls and what they may
    Duration write{30'000};            // a peer that takes nothing for so long is dropped
    Duration request{14'400'000};      // one request in all, a followed log too: 4 h as the kubelet
    Duration stream_creation{30'000};  // until exec's streams are open
    Duration stream_idle{14'400'000};  // a stream session without any frame: 4 h
    Duration drain{30'000};            // how long a log may go on once its pod is gone
    // What streams of clients may hold beyond their own buffers while the pod does not read: of one session,
    // of all.
    std::size_t spare_of_session = 8U << 20U;
    std::size_t spare_of_all = 128U << 20U;
};

struct ServerOptions {
    std::string address;         // numeric IPv4 or IPv6; "" = every address of both families
    std::uint16_t port = 10250;  // 0 = any free one; see Server::port()
    std::string node_name;
    ServerLimits limits = {};
    Json configz = Json::object();  // what GET /configz shows beyond the fixed fields: "maxPods" and the like
};

// Success while the node's sync loop ticks; its error text goes to the log and to /healthz/syncloop. Called
// from connection threads; must not block.
using HealthCheck = std::function<Result<void>()>;

class Server {
  public:
    Server(Clock& clock, ServerOptions options, net::TlsServerContext& tls, Authenticator& authenticator,
           Authorizer& authorizer, const PodLookup& pods, MetricsRegistry& metrics, HealthCheck health);
    ~Server();

    // Binds and starts to accept. Invalid (address), Unavailable (port in use), Forbidden (privileged
    // port). Needs no certificate yet: until the context has one, handshakes fail and the port is open.
    Result<void> start();

    // The port that is bound; 0 before start().
    std::uint16_t port() const;

    // Ends every exec, attach and port-forward session of this pod; clients that can be told get `reason`. A
    // log has limits.drain to come to its own end. Returns at once.
    void cancel_pod(const std::string& uid, const std::string& reason);

    // Refuses new connections, ends all sessions, joins all threads. Idempotent.
    void stop();

  private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace k8sgpu::kubelet_api
