// SPDY/3.1 as Kubernetes uses it for exec, attach and port-forward: a MuxSession for either side.
//
// Differs from the SPDY paper as the reference implementation (moby/spdystream) does: no flow-control windows
// in either direction, SYN_STREAM is answered at once with an empty SYN_REPLY, SETTINGS and WINDOW_UPDATE are
// ignored. Back-pressure is the connection's own: a stream whose inbound buffer is full stops the reader, and
// with it every other stream and the answers to pings. So whoever accepts a stream must keep reading it or
// reset() it; a session whose two sides both write without reading stalls until one gives up.
//
// Outgoing frames pass through a queue that a writer thread empties, in order and with at most 64 KiB waiting
// per stream: streams share the connection fairly, a cancelled write never leaves half a frame on the wire,
// and the reader never blocks on a peer that does not read. Owns its connection and two threads
// (`<name>-read`, `<name>-write`). Ends by close(), cancel(), the peer, or the idle timeout; the destructor
// cancels. Neither close() nor the destructor may run on a stop callback of ended().
#pragma once

#include <memory>
#include <string>

#include "net/buffer_pool.h"
#include "net/mux_session.h"

namespace k8sgpu::net {

enum class MuxRole { Server, Client };

}  // namespace k8sgpu::net

namespace k8sgpu::net::spdy {

struct SpdyOptions {
    MuxRole role = MuxRole::Server;
    std::string name = "spdy";                      // thread names; at most 9 bytes
    Duration idle_timeout = std::chrono::hours(4);  // without any frame either way; zero: never
    Duration ping_interval{0};                      // zero: send none. kubectl uses 5 s
    Duration silence_limit{0};       // end when nothing arrives for so long; zero: never. Use with pings
    Duration reply_timeout{30'000};  // open(): how long the peer may take to acknowledge
    std::size_t max_streams = 4096;  // open at once; more are refused (RST 3)
    std::size_t stream_buffer = 256U << 10U;  // inbound bytes that may wait per stream
    // Where a stream whose reader is slow may have more of them, so that the others still move.
    std::shared_ptr<BufferPool> spare = nullptr;
};

class SpdySession final : public MuxSession {
  public:
    // `early` is what was read behind the upgrade's head. The clock outlives the session.
    SpdySession(std::unique_ptr<ByteStream> connection, std::string early, Clock& clock, SpdyOptions options);
    ~SpdySession() override;

    Result<std::shared_ptr<MuxStream>> accept(const CallContext& ctx) override;
    // Names are lowered. Unavailable when the peer refuses or resets the stream, Timeout without an answer.
    Result<std::shared_ptr<MuxStream>> open(const StreamHeaders& headers, const CallContext& ctx) override;
    Result<std::shared_ptr<MuxStream>> open_at_once(const StreamHeaders& headers,
                                                    const CallContext& ctx) override;
    // Waits for queued frames without a limit of its own (only idle timeout, cancel() or the peer's end cut
    // it short), because a Status that does not reach the client counts as success there; then resets what
    // is still open, sends GOAWAY, and lingers.
    void close(Duration linger) override;
    void cancel() override;
    std::stop_token ended() const override;
    // Why the session ended; Unavailable "session closed" after an orderly close.
    Error end_reason() const;

  private:
    class Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace k8sgpu::net::spdy
