// The non-blocking side of a byte stream, for whoever serves many streams from one thread (relay.h). The
// streams of multiplexed sessions, sockets and memory pairs have it; ask with as_pollable().
//
// try_read() and try_write() follow the rules of ByteStream::read() and write() for threads and errors. A
// stream that is a descriptor names it in poll_fd(), to be watched edge-triggered; any other calls the
// functions given to watch_*() whenever trying again may get further than the last attempt did. They are
// called from any thread, perhaps under locks of the stream: they must do next to nothing, and must not come
// back to the stream. Once watch_*() has returned, what it was given before is not called any more.
#pragma once

#include <cstddef>
#include <functional>
#include <optional>
#include <span>
#include <string_view>

#include "common/result.h"
#include "net/byte_stream.h"

namespace k8sgpu::net {

using Wake = std::function<void()>;

class Pollable {
  public:
    virtual ~Pollable() = default;

    // Bytes that are there; 0 at the end of the peer's side; nothing when there is nothing yet.
    virtual Result<std::optional<std::size_t>> try_read(std::span<char> buffer) = 0;
    // Takes what there is room for, perhaps nothing.
    virtual Result<std::size_t> try_write(std::string_view bytes) = 0;

    virtual int poll_fd() const { return -1; }
    virtual void watch_readable(Wake) {}
    virtual void watch_writable(Wake) {}
};

// Null for a stream that can only block.
inline Pollable* as_pollable(ByteStream& stream) {
    return dynamic_cast<Pollable*>(&stream);
}

}  // namespace k8sgpu::net
