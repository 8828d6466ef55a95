#include "net/internal/outbox.h"

#include <algorithm>

namespace k8sgpu::net::internal {

Result<void> Outbox::push_data(const LanePtr& lane, std::string frame, const CallContext& ctx) {
    std::unique_lock lock(mutex_);
    const auto ready = [&] { return lane->waiting < kLaneLimit || lane->closed || closed_ || sealed_; };
    blocked_.insert(lane.get());
    const bool done = ctx.clock().wait_until(lane->room, lock, ctx.deadline(), ctx.stop(), ready);
    blocked_.erase(lane.get());
    if (closed_) return fail(*closed_);
    if (lane->closed) return fail(*lane->closed);
    if (sealed_) return fail(ErrorKind::Unavailable, "the session is closing");
    if (ctx.stop().stop_requested()) return fail(ErrorKind::Cancelled, "stopped");
    if (!done) return fail(ErrorKind::Timeout, "deadline passed while the peer was slow to read");
    lane->waiting += frame.size();
    queue_.push_back({lane, std::move(frame)});
    changed_.notify_all();
    return {};
}

Result<void> Outbox::push(std::string frame) {
    return push_control(std::move(frame), queue_);
}

Result<void> Outbox::push_first(std::string frame) {
    return push_control(std::move(frame), first_);
}

Result<void> Outbox::push_control(std::string frame, std::deque<Frame>& queue) {
    const std::lock_guard lock(mutex_);
    if (closed_) return fail(*closed_);
    if (sealed_) return fail(ErrorKind::Unavailable, "the session is closing");
    if (control_waiting_ + frame.size() > kControlLimit) {
        return fail(ErrorKind::Protocol, "peer does not read the answers it asks for");
    }
    control_waiting_ += frame.size();
    queue.push_back({nullptr, std::move(frame)});
    changed_.notify_all();
    return {};
}

void Outbox::close_lane(const LanePtr& lane, Error why) {
    const std::lock_guard lock(mutex_);
    if (!lane->closed) lane->closed = std::move(why);
    lane->room.notify_all();
}

void Outbox::drop_lane(const LanePtr& lane, Error why) {
    const std::lock_guard lock(mutex_);
    if (!lane->closed) lane->closed = std::move(why);
    std::erase_if(queue_, [&](const Frame& frame) { return frame.lane == lane; });
    lane->room.notify_all();
    changed_.notify_all();
}

void Outbox::seal() {
    const std::lock_guard lock(mutex_);
    sealed_ = true;
    for (Lane* lane : blocked_) lane->room.notify_all();
}

void Outbox::close(Error why) {
    const std::lock_guard lock(mutex_);
    if (!closed_) closed_ = std::move(why);
    first_.clear();
    queue_.clear();
    for (Lane* lane : blocked_) lane->room.notify_all();
    changed_.notify_all();
}

std::optional<std::string> Outbox::take(Clock& clock, SteadyTime until, std::stop_token stop) {
    std::unique_lock lock(mutex_);
    clock.wait_until(changed_, lock, until, std::move(stop), [&] { return closed_ || has_frames(); });
    if (closed_ || !has_frames()) return std::nullopt;
    std::string batch;
    do {
        auto& from = first_.empty() ? queue_ : first_;
        Frame& frame = from.front();
        in_flight_.push_back({frame.lane, frame.bytes.size()});
        if (batch.empty()) {
            batch = std::move(frame.bytes);
        } else {
            batch += frame.bytes;
        }
        from.pop_front();
    } while (has_frames() && batch.size() + front().bytes.size() <= kBatch);
    return batch;
}

void Outbox::written() {
    const std::lock_guard lock(mutex_);
    for (const auto& [lane, size] : in_flight_) release(lane, size);
    in_flight_.clear();
    changed_.notify_all();
}

void Outbox::release(const LanePtr& lane, std::size_t size) {
    if (!lane) {
        control_waiting_ -= size;
        return;
    }
    lane->waiting -= size;
    lane->room.notify_all();
}

Result<void> Outbox::wait_drained(const CallContext& ctx) {
    std::unique_lock lock(mutex_);
    const bool drained = ctx.clock().wait_until(changed_, lock, ctx.deadline(), ctx.stop(), [&] {
        return closed_ || (!has_frames() && in_flight_.empty());
    });
    if (closed_) return fail(*closed_);
    if (drained) return {};
    if (ctx.stop().stop_requested()) return fail(ErrorKind::Cancelled, "stopped");
    return fail(ErrorKind::Timeout, "deadline passed while the peer was slow to read");
}

}  // namespace k8sgpu::net::internal
