// The Transport over libcurl: HTTP/1.1, TLS, proxies, credentials that renew themselves.
//
// One thread, "kube-io", moves the bytes of all requests and streams (a CURLM loop); callers wait on their
// own threads with their own deadlines. Each watch has a connection of its own, so one dead path is one dead
// watch. Upgraded connections live outside the loop, on their users' threads. Nothing is throttled here.
//
// Any thread. stop(), or the destructor, ends all requests with Cancelled and joins kube-io; streams go
// before.
#pragma once

#include <memory>
#include <string>

#include "common/guarded.h"
#include "kube/client_config.h"
#include "kube/transport.h"

namespace k8sgpu::kube {

struct CurlTransportOptions {
    std::string user_agent = "k8sgpu";      // main appends "/<version>"
    Duration connect_timeout{10'000};       // name, TCP, proxy and TLS together
    Duration dead_peer_timeout{30'000};     // unacknowledged bytes or unanswered keep-alives cut a connection
    std::size_t stream_buffer = 1U << 20U;  // bytes that wait for the reader of an open() stream
    std::size_t max_body = 256U << 20U;     // of a send() answer, decompressed
};

class CurlLoop;
struct Endpoint;

class CurlTransport final : public Transport {
  public:
    // Invalid when the server's URL is. Nothing is connected yet, and files are read when first needed.
    static Result<std::unique_ptr<CurlTransport>> create(ClientConfig config, Clock& clock,
                                                         CurlTransportOptions options = {});
    ~CurlTransport() override;

    Result<Response> send(const Request& request, const CallContext& ctx) override;
    Result<std::unique_ptr<ResponseStream>> open(const Request& request, const CallContext& ctx) override;
    Result<Upgraded> upgrade(const Request& request, const CallContext& ctx) override;

    // Uses another configuration (a changed kubeconfig) from the next request on; what is open goes on.
    // Invalid, and nothing changes, when the server's URL is.
    Result<void> reconfigure(ClientConfig config);
    void stop();  // idempotent

  private:
    CurlTransport(std::shared_ptr<Endpoint> endpoint, Clock& clock, CurlTransportOptions options);
    template <typename Answer, typename Attempt, typename Status>
    Result<Answer> with_fresh_credentials(const CallContext& ctx, Attempt attempt, Status status_of);

    Clock& clock_;
    const CurlTransportOptions options_;
    Guarded<std::shared_ptr<Endpoint>> endpoint_;
    std::unique_ptr<CurlLoop> loop_;  // last: its thread uses the rest
};

}  // namespace k8sgpu::kube
