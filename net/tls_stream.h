// ByteStream over TLS on a non-blocking socket, as server or client.
//
// OpenSSL forbids two threads inside one SSL object, so every SSL call runs under the stream's mutex and
// every wait (poll) outside it: a reader that waits never keeps a writer from writing. Threads as ByteStream.
// An end of the connection without TLS's own goodbye is Unavailable, since it may be an attacker's cut.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "net/byte_stream.h"
#include "net/fd.h"
#include "net/tls_context.h"
#include "net/wake.h"

namespace k8sgpu::net {

class TlsStream final : public ByteStream {
  public:
    // Handshakes within ctx. Errors: TlsFailure (with the reason), Unavailable (peer left), Timeout,
    // Cancelled.
    static Result<std::unique_ptr<TlsStream>> accept(Fd fd, const TlsServerContext& context,
                                                     const CallContext& ctx);
    // `server_name` (a DNS name or an address) is checked against the certificate and sent as SNI.
    static Result<std::unique_ptr<TlsStream>> connect(Fd fd, const TlsClientContext& context,
                                                      const std::string& server_name, const CallContext& ctx);
    ~TlsStream() override;

    Result<std::size_t> read(std::span<char> buffer, const CallContext& ctx) override;
    Result<void> write(std::string_view bytes, const CallContext& ctx) override;
    // Sends close_notify; gives up after a second against a peer that reads nothing.
    Result<void> shut_write() override;
    void cancel() override;
    bool peer_hung_up() const override;

    // True when read() would return at once: decrypted or raw bytes, or the end, are there.
    bool readable() const;

    // What the peer presented, leaf first, unverified; empty when it presented nothing.
    std::vector<X509Ptr> peer_certificates() const;
    // The same as PEM, one block after the other.
    std::string peer_chain_pem() const;
    std::string protocol_version() const;  // "TLSv1.3"

    int fd() const { return fd_.get(); }

  private:
    TlsStream(Fd fd, SslPtr ssl) : fd_(std::move(fd)), ssl_(std::move(ssl)) {}
    Result<void> handshake(const CallContext& ctx);
    Result<void> wait_for(int ssl_error, Waker& waker, const CallContext& ctx);

    Fd fd_;
    mutable std::mutex mutex_;  // guards ssl_
    SslPtr ssl_;
    bool broken_ = false;      // under mutex_: a fatal error was seen, no goodbye may be sent
    bool write_shut_ = false;  // under mutex_
    Waker reader_;
    Waker writer_;
};

}  // namespace k8sgpu::net
