// ByteStream over a connected stream socket (TCP or Unix) without TLS: the local side of a port-forward, test
// servers. Owns the descriptor, which must be non-blocking. Threads as ByteStream.
#pragma once

#include <cstdint>
#include <string>

#include "net/byte_stream.h"
#include "net/fd.h"
#include "net/pollable.h"
#include "net/wake.h"

namespace k8sgpu::net {

class SocketStream final : public ByteStream, public Pollable {
  public:
    explicit SocketStream(Fd fd) : fd_(std::move(fd)) {}

    Result<std::size_t> read(std::span<char> buffer, const CallContext& ctx) override;
    Result<void> write(std::string_view bytes, const CallContext& ctx) override;
    Result<void> shut_write() override;
    void cancel() override;
    bool peer_hung_up() const override;

    Result<std::optional<std::size_t>> try_read(std::span<char> buffer) override;
    Result<std::size_t> try_write(std::string_view bytes) override;
    int poll_fd() const override { return fd_.get(); }

    int fd() const { return fd_.get(); }

  private:
    Fd fd_;
    Waker reader_;
    Waker writer_;
};

// True once the peer has sent FIN or RST, even while unread bytes wait.
bool socket_peer_hung_up(int fd);

struct Endpoint {
    std::string address;  // numeric, without brackets; empty where the socket has none (Unix)
    std::uint16_t port = 0;
};
Endpoint peer_endpoint(int fd);
Endpoint local_endpoint(int fd);

}  // namespace k8sgpu::net
