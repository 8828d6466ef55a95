// The port for anything that carries bytes both ways: a TCP or TLS connection, one stream of a multiplexed
// session, the stdin of a process, an in-memory pair in tests.
//
// One reading thread and one writing thread may use a stream at the same time; cancel() may come from any
// thread. The owner destroys it after both have left. Errors: Cancelled (stop token or cancel()), Timeout
// (deadline), Unavailable (peer gone), Protocol/TlsFailure.
#pragma once

#include <cstddef>
#include <span>
#include <string_view>

#include "common/call_context.h"
#include "common/result.h"

namespace k8sgpu::net {

class ByteStream {
  public:
    virtual ~ByteStream() = default;

    // Reads 1..buffer.size() bytes, blocking until some are there; 0 means the peer ended its side in order.
    virtual Result<std::size_t> read(std::span<char> buffer, const CallContext& ctx) = 0;

    // Writes everything or fails; blocks while the peer is slow (this is the back-pressure).
    virtual Result<void> write(std::string_view bytes, const CallContext& ctx) = 0;

    // Ends our side; the peer reads to the end and may go on writing. Idempotent.
    virtual Result<void> shut_write() = 0;

    // Wakes every blocked call with Cancelled and makes later ones fail at once. Idempotent, any thread.
    virtual void cancel() = 0;

    // True once the transport knows that the peer will send nothing more, even while unread bytes wait. Lets
    // a session whose consumer is slow notice that its peer has left. Any thread; false where unknown.
    virtual bool peer_hung_up() const { return false; }
};

}  // namespace k8sgpu::net
