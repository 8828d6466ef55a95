// Runs a multiplexing session against bytes that a peer is supposed to have sent, to its end: the peer says
// its piece, ends its side, and the session must end by itself, whatever it was. One thread beside the
// session's own.
#pragma once

#include <array>
#include <chrono>
#include <memory>
#include <string_view>

#include "common/clock.h"
#include "net/memory_stream.h"
#include "net/mux_session.h"
#include "tests/fuzz/input.h"

namespace k8sgpu::fuzz {

inline SystemClock& fuzz_clock() {
    static SystemClock clock;
    return clock;
}
// Generous: a sanitizer on a busy machine. Whoever meets it hangs.
inline CallContext patiently() {
    return CallContext::with_timeout(fuzz_clock(), std::chrono::seconds(20), {});
}

// The peer's side of a connection on which `bytes` have arrived and then the end.
inline net::MemoryPair connection_with(std::string_view bytes) {
    auto pair = net::make_memory_pair(256U << 10U);
    require(pair.second->write(bytes, patiently()).has_value(), "the input fits the connection");
    require(pair.second->shut_write().has_value(), "the peer can end its side");
    return pair;
}

// Reads to the end or an error; more than `limit` bytes cannot have been in the input.
inline void read_out(net::ByteStream& stream, std::size_t limit) {
    std::array<char, 4096> buffer;
    std::size_t total = 0;
    while (true) {
        const auto got = stream.read(buffer, patiently());
        if (!got) {
            require(got.error().kind != ErrorKind::Timeout, "a stream of an ended connection ends");
            return;
        }
        if (*got == 0) return;
        total += *got;
        require(total <= limit, "a stream gives no more than came in");
    }
}

// Accepts what the peer opened, and reads each stream to its end.
inline void drain(net::MuxSession& session, std::size_t limit) {
    while (true) {
        const auto stream = session.accept(patiently());
        if (!stream) {
            require(stream.error().kind != ErrorKind::Timeout, "accept() ends with the connection");
            return;
        }
        read_out(**stream, limit);
    }
}

}  // namespace k8sgpu::fuzz
