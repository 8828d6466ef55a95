#include "net/internal/outbox.h"

#include <algorithm>
#include <utility>

namespace k8sgpu::net::internal {

Result<void> Outbox::push_data(const LanePtr& lane, std::string frame, const CallContext& ctx) {
    std::unique_lock lock(mutex_);
    const auto ready = [&] { return room_in(*lane) || lane->closed || closed_ || sealed_; };
    if (!ready()) {
        blocked_.insert(lane);
        const bool done = ctx.clock().wait_until(lane->room, lock, ctx.deadline(), ctx.stop(), ready);
        blocked_.erase(lane);
        if (!done && !ctx.stop().stop_requested())
            return fail(ErrorKind::Timeout, "deadline passed while the peer was slow to read");
    }
    if (!closed_ && !lane->closed && !sealed_ && ctx.stop().stop_requested())
        return fail(ErrorKind::Cancelled, "stopped");
    return enqueue(lane, std::move(frame));
}

Result<void> Outbox::enqueue(const LanePtr& lane, std::string frame) {
    if (closed_) return fail(*closed_);
    if (lane->closed) return fail(*lane->closed);
    if (sealed_) return fail(ErrorKind::Unavailable, "the session is closing");
    lane->waiting += frame.size();
    data_waiting_ += frame.size();
    queue_.push_back({lane, std::move(frame)});
    changed_.notify_all();
    return {};
}

Result<bool> Outbox::has_room(const LanePtr& lane) {
    const std::lock_guard lock(mutex_);
    if (closed_) return fail(*closed_);
    if (lane->closed) return fail(*lane->closed);
    if (sealed_) return fail(ErrorKind::Unavailable, "the session is closing");
    if (room_in(*lane)) return true;
    lane->wanted = true;
    blocked_.insert(lane);
    return false;
}

Result<void> Outbox::push_ready(const LanePtr& lane, std::string frame) {
    const std::lock_guard lock(mutex_);
    return enqueue(lane, std::move(frame));
}

void Outbox::watch_room(const LanePtr& lane, Wake wake) {
    const std::lock_guard lock(mutex_);
    lane->wake = std::move(wake);
    if (!lane->wake && lane->wanted) {
        lane->wanted = false;
        blocked_.erase(lane);
    }
}

// Whoever waits for room looks again: a thread in push_data(), or the one that has_room() sent away.
void Outbox::tell(const LanePtr& lane) {
    lane->room.notify_all();
    if (!std::exchange(lane->wanted, false)) return;
    blocked_.erase(lane);
    if (lane->wake) lane->wake();
}

void Outbox::tell_all() {
    const auto blocked = blocked_;
    for (const auto& lane : blocked) tell(lane);
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
    tell(lane);
}

void Outbox::drop_lane(const LanePtr& lane, Error why) {
    const std::lock_guard lock(mutex_);
    if (!lane->closed) lane->closed = std::move(why);
    std::erase_if(queue_, [&](const Frame& frame) {
        if (frame.lane != lane) return false;
        data_waiting_ -= frame.bytes.size();
        return true;
    });
    tell(lane);
    changed_.notify_all();
}

void Outbox::seal() {
    const std::lock_guard lock(mutex_);
    sealed_ = true;
    tell_all();
}

void Outbox::close(Error why) {
    const std::lock_guard lock(mutex_);
    if (!closed_) closed_ = std::move(why);
    first_.clear();
    queue_.clear();
    tell_all();
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
    data_waiting_ -= size;
    if (room_in(*lane)) tell(lane);
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
