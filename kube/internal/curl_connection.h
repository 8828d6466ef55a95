// A connection of its own to the API server, through proxy and TLS as libcurl makes it, then ours to read and
// write: what an upgraded request runs on.
//
// libcurl connects (CURLOPT_CONNECT_ONLY) in a CURLM that this object owns. One handle must not be used by
// two threads at once, so each non-blocking curl_easy_send/recv runs under the mutex and every wait outside
// it: a reader that waits never keeps a writer from writing. Threads as ByteStream.
#pragma once

#include <memory>
#include <mutex>

#include "kube/internal/curl_setup.h"
#include "net/wake.h"

namespace k8sgpu::kube {

class CurlConnection final : public net::ByteStream {
  public:
    // Blocks until connected (TLS and proxy included) or ctx ends.
    static Result<std::unique_ptr<CurlConnection>> connect(std::shared_ptr<Endpoint> endpoint,
                                                           const Credential& credential,
                                                           const CurlTransportOptions& options,
                                                           const CallContext& ctx);
    ~CurlConnection() override;

    Result<std::size_t> read(std::span<char> buffer, const CallContext& ctx) override;
    Result<void> write(std::string_view bytes, const CallContext& ctx) override;
    Result<void> shut_write() override;
    void cancel() override;
    bool peer_hung_up() const override;

    // Bytes that read() gives before anything from the network: what came behind the response's head.
    void push_back(std::string early) { early_ = std::move(early); }

  private:
    explicit CurlConnection(std::shared_ptr<Endpoint> endpoint) : endpoint_(std::move(endpoint)) {}
    Result<void> run_connect(const CallContext& ctx);
    Result<void> wait(net::Waker& waker, short events, const CallContext& ctx);
    Error broken(CURLcode code) const;

    const std::shared_ptr<Endpoint> endpoint_;
    Slist connect_to_;
    ErrorBuffer error_buffer_{};
    CURLM* multi_ = nullptr;
    Easy easy_;
    curl_socket_t socket_ = CURL_SOCKET_BAD;
    std::string early_;  // the reading thread only
    std::mutex mutex_;   // guards easy_ and failed_
    bool failed_ = false;
    net::Waker reader_;
    net::Waker writer_;
};

}  // namespace k8sgpu::kube
