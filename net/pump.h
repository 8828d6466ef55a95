// Copies between byte streams until they end: the two directions of a forwarded connection.
//
// The caller's thread does one direction, a second thread of the call's own the other, joined before return.
// The streams stay the caller's; when one direction fails, the other is stopped too.
#pragma once

#include <cstdint>

#include "net/byte_stream.h"

namespace k8sgpu::net {

// Copies until `from` ends, then ends `to` (shut_write). Returns the number of bytes copied.
Result<std::uint64_t> pump_one_way(ByteStream& from, ByteStream& to, const CallContext& ctx);

enum class PumpUntil {
    BothEnded,    // each direction is half-closed on its own
    SecondEnded,  // done once `second` has nothing more to say: a port-forward whose pod side closed
};

// Copies both ways with half-close. Returns the first direction's error that is not our own stopping of it.
Result<void> pump_both_ways(ByteStream& first, ByteStream& second, const CallContext& ctx,
                            PumpUntil until = PumpUntil::BothEnded);

}  // namespace k8sgpu::net
