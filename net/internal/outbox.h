// Outbox: the frames of a multiplexed session that wait for its connection, in order. Streams push, one
// writer thread takes. Internal to net/.
//
//   stream.write ─ push_data ─┐
//   FIN, SYN     ─ push ──────┼─▶ [frame][frame][frame] ─ take ─▶ writer thread ─▶ connection
//   ping, pong   ─ push_first ┘ (jumps the queue)
//
// A lane is one stream's share: push_data() waits while the lane has kLaneLimit bytes in the queue, or while
// it has any and all lanes together have kTotalLimit, so the queue stays bounded (kTotalLimit and one frame
// per lane) and no stream starves another. Everything else is small and never waits, but a peer
// that provokes answers without reading them meets kControlLimit. Any thread.
#pragma once

#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "common/call_context.h"
#include "common/result.h"
#include "net/pollable.h"

namespace k8sgpu::net::internal {

class Outbox {
  public:
    static constexpr std::size_t kLaneLimit = 64U << 10U;
    static constexpr std::size_t kTotalLimit = 512U << 10U;
    static constexpr std::size_t kControlLimit = 1U << 20U;
    static constexpr std::size_t kBatch = 64U << 10U;

    // Opaque to its holder; the members belong to the outbox's mutex.
    struct Lane {
        std::size_t waiting = 0;
        std::optional<Error> closed;
        std::condition_variable_any room;
        Wake wake;            // see Pollable::watch_writable()
        bool wanted = false;  // has_room() said no
    };
    using LanePtr = std::shared_ptr<Lane>;

    Result<void> push_data(const LanePtr& lane, std::string frame, const CallContext& ctx);
    // push_data() in two steps that never wait. What has room keeps it until its only writer pushes.
    Result<bool> has_room(const LanePtr& lane);
    Result<void> push_ready(const LanePtr& lane, std::string frame);
    void watch_room(const LanePtr& lane, Wake wake);
    // Protocol when the peer let kControlLimit of these pile up.
    Result<void> push(std::string frame);
    Result<void> push_first(std::string frame);

    // Fails blocked and later push_data() calls of the lane; frames that wait already still go out.
    void close_lane(const LanePtr& lane, Error why);
    // The same, and takes back what waits.
    void drop_lane(const LanePtr& lane, Error why);

    void seal();            // nothing more is taken in; what waits still goes out
    void close(Error why);  // everything fails, what waits is dropped. The first reason stays

    // For the writer thread: frames that wait, joined up to about kBatch; nothing at `until` or after
    // close().
    std::optional<std::string> take(Clock& clock, SteadyTime until, std::stop_token stop);
    void written();  // what take() gave last has gone out

    // Returns once everything pushed so far has gone out; the reason when closed before.
    Result<void> wait_drained(const CallContext& ctx);

  private:
    struct Frame {
        LanePtr lane;  // null for control frames
        std::string bytes;
    };
    struct Taken {
        LanePtr lane;
        std::size_t size;
    };
    Result<void> push_control(std::string frame, std::deque<Frame>& queue);
    bool has_frames() const { return !first_.empty() || !queue_.empty(); }
    const Frame& front() const { return first_.empty() ? queue_.front() : first_.front(); }
    void release(const LanePtr& lane, std::size_t size);
    bool room_in(const Lane& lane) const {
        return lane.waiting < kLaneLimit && (lane.waiting == 0 || data_waiting_ < kTotalLimit);
    }
    Result<void> enqueue(const LanePtr& lane, std::string frame);
    void tell(const LanePtr& lane);
    void tell_all();

    std::mutex mutex_;
    std::condition_variable_any changed_;  // something to take, drained, or closed
    std::deque<Frame> first_;              // what jumps the queue, in its own order
    std::deque<Frame> queue_;
    std::vector<Taken> in_flight_;  // taken, not yet written
    std::set<LanePtr> blocked_;     // lanes somebody waits for
    std::size_t data_waiting_ = 0;  // of all lanes
    std::size_t control_waiting_ = 0;
    bool sealed_ = false;
    std::optional<Error> closed_;
};

}  // namespace k8sgpu::net::internal
