// Copies bytes between any number of streams on one thread, whatever they are: streams of multiplexed
// sessions, sockets. How port-forward and exec carry many streams without a thread for each.
//
//   copy(from, to, done) ─▶ flow: try_read ─▶ scratch ─▶ try_write ─ what `to` does not take waits (32 KiB)
//
// run() is the thread. It serves flows in turns, so none starves another; a flow whose destination is full
// rests until that has room and costs the others nothing. A flow at rest holds no buffer. copy() may be
// called from any thread, also in a `done`; the rest is said below. Owns three descriptors.
#pragma once

#include <functional>
#include <memory>
#include <optional>

#include "common/call_context.h"
#include "net/pollable.h"

namespace k8sgpu::net {

class Relay {
  public:
    // How a flow ended: by the source's end (no error), by the source's failure, by the destination's.
    struct End {
        std::optional<Error> error;
        bool at_destination = false;
    };
    using Done = std::function<void(const End&)>;
    using Ticket = std::uint64_t;

    Relay();
    // Flows that are left end without `done`. Not while run() is under way.
    ~Relay();

    // Copies until `from` ends. Both must be Pollable and stay until `done` has begun, which runs on run()'s
    // thread; it does not end `to`, that is for `done`. Each stream is the source of one flow at a time and
    // the destination of one. Internal when a stream cannot be polled or no descriptor is left.
    Result<Ticket> copy(ByteStream& from, ByteStream& to, Done done);

    // Ends a flow without `done`. Only on run()'s thread, or while nobody runs.
    void drop(Ticket ticket);

    // Has run()'s thread do something between two rounds: what else touches the flows. Any thread. Work that
    // comes after the last round is thrown away.
    void post(std::function<void()> work);

    // Serves until `enough` says so (asked after each round), or the context ends: Cancelled, Timeout.
    Result<void> run(const CallContext& ctx, const std::function<bool()>& enough);

    std::size_t flows() const;

  private:
    class Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace k8sgpu::net
