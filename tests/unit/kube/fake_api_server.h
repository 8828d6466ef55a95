// A real server on a port of its own that does what a test tells it, down to the bytes: answers, streams that
// stall or break, upgrades. And a proxy of the CONNECT kind in front of it.
//
// One thread accepts, one serves each connection; the destructor ends and joins them all.
#pragma once

#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <string>

#include "common/guarded.h"
#include "common/thread.h"
#include "net/http_head.h"
#include "net/listener.h"
#include "net/tls_stream.h"
#include "tests/unit/kube/test_pki.h"

namespace k8sgpu::kube {

// One accepted connection after another, each on its own thread.
class ConnectionServer {
  public:
    using Serve = std::function<void(net::Fd, const CallContext&)>;
    explicit ConnectionServer(Serve serve);
    ~ConnectionServer() { stop(); }
    std::uint16_t port() const { return listener_->port(); }
    int connections() const { return *connections_.lock(); }
    void stop();

  private:
    SystemClock clock_;
    std::stop_source stop_;
    Serve serve_;
    std::unique_ptr<net::Listener> listener_;
    Guarded<int> connections_;
    Guarded<std::list<Thread>> threads_;
    Thread acceptor_;
};

struct ServerTls {
    TestPair pair;
    std::string client_ca;  // what we would accept; the handler judges the client's certificate
};

class FakeApiServer {
  public:
    struct Call {
        net::HttpRequestHead head;
        std::string body;
        std::string client_cn;  // of the client's certificate, "" for none
        std::string early;      // what came behind the head of an upgrade
        net::ByteStream& stream;
        const CallContext& ctx;

        std::string header(const char* name) const { return std::string(head.headers.get(name)); }
        void reply(int status, const std::string& text, const net::HeaderLines& more = {});
        // A chunked answer, piece by piece.
        void begin_chunked(int status = 200);
        bool chunk(const std::string& text);  // false once the client has left
        void end_chunked();
        void wait_until_stopped();  // says nothing and keeps the connection open
    };
    // True keeps the connection for the next request.
    using Handler = std::function<bool(Call&)>;

    explicit FakeApiServer(Handler handler, std::optional<ServerTls> tls = std::nullopt);
    ~FakeApiServer() { server_->stop(); }

    std::string url(const std::string& host = "127.0.0.1") const;
    std::uint16_t port() const { return server_->port(); }
    int connections() const { return server_->connections(); }
    std::string sni() const { return *last_sni_.lock(); }

  private:
    void serve(net::Fd fd, const CallContext& ctx);
    void serve_requests(net::ByteStream& stream, const std::string& client_cn, const CallContext& ctx);

    Handler handler_;
    std::unique_ptr<net::TlsServerContext> tls_;
    Guarded<std::string> last_sni_;
    std::unique_ptr<ConnectionServer> server_;
};

// Accepts "CONNECT host:port" and carries bytes to `target_port` on loopback, whatever host was asked for.
class FakeProxy {
  public:
    explicit FakeProxy(std::uint16_t target_port, int status = 200);
    std::string url(const std::string& user = "") const;
    std::string asked_for() const { return *asked_.lock(); }
    std::string authorization() const { return *authorization_.lock(); }

  private:
    Guarded<std::string> asked_;
    Guarded<std::string> authorization_;
    std::unique_ptr<ConnectionServer> server_;
};

}  // namespace k8sgpu::kube
