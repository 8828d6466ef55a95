#include "common/clock.h"

#include <vector>

namespace k8sgpu {

bool Clock::sleep_until(SteadyTime until, std::stop_token stop) {
    std::mutex mutex;
    std::condition_variable_any cv;
    std::unique_lock lock(mutex);
    wait_until(cv, lock, until, stop, [] { return false; });
    return !stop.stop_requested();
}

bool SystemClock::wait_until(std::condition_variable_any& cv, std::unique_lock<std::mutex>& lock,
                             SteadyTime until, std::stop_token stop, const std::function<bool()>& pred) {
    return cv.wait_until(lock, std::move(stop), until, pred);
}

SteadyTime FakeClock::now() const {
    std::lock_guard guard(mutex_);
    return now_;
}

WallTime FakeClock::wall_now() const {
    std::lock_guard guard(mutex_);
    return wall_;
}

bool FakeClock::wait_until(std::condition_variable_any& cv, std::unique_lock<std::mutex>& lock,
                           SteadyTime until, std::stop_token stop, const std::function<bool()>& pred) {
    const int marker = 0;
    {
        std::lock_guard guard(mutex_);
        waiting_.insert(&marker);
        cvs_.insert(&cv);
        changed_.notify_all();
    }
    // advance() cannot take the caller's mutex, so a wake-up may fall between the predicate and the wait.
    // Real polls of a few milliseconds close that gap; fake time itself never moves by them.
    while (!pred() && !stop.stop_requested() && now() < until) {
        cv.wait_for(lock, stop, std::chrono::milliseconds(2), pred);
    }
    {
        std::lock_guard guard(mutex_);
        waiting_.erase(&marker);
        cvs_.erase(cvs_.find(&cv));
    }
    return pred();
}

void FakeClock::advance(Duration by) {
    std::lock_guard guard(mutex_);
    now_ += by;
    wall_ += by;
    for (auto* cv : cvs_) cv->notify_all();
}

void FakeClock::jump_wall(Duration by) {
    std::lock_guard guard(mutex_);
    wall_ += by;
}

bool FakeClock::wait_for_sleepers(std::size_t count) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::seconds(10), [&] { return waiting_.size() >= count; });
}

}  // namespace k8sgpu
