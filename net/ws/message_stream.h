// ByteStream over the binary messages of a WebSocket; message borders carry no meaning. Under it runs the
// connection, on it the SPDY session of a tunnelled port-forward (KEP-4006).
//
// A close with 1000 (or 1001, or without code) is the end of the stream, any other close Unavailable, a text
// message Protocol. Pings are answered by whichever thread is in a call. A write that is cut short leaves the
// stream unusable. Threads as ByteStream.
#pragma once

#include <memory>
#include <string>

#include "net/byte_stream.h"
#include "net/spdy/session.h"

namespace k8sgpu::net::ws {

class MessageStream final : public ByteStream {
  public:
    MessageStream(std::unique_ptr<ByteStream> connection, std::string early, MuxRole role);
    ~MessageStream() override;

    Result<std::size_t> read(std::span<char> buffer, const CallContext& ctx) override;
    Result<void> write(std::string_view bytes, const CallContext& ctx) override;
    Result<void> shut_write() override;  // sends close 1000
    void cancel() override;
    bool peer_hung_up() const override;

  private:
    class Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace k8sgpu::net::ws
