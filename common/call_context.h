// What travels with every blocking call: until when it may take, and who may end it early.
//
// A child context can only shrink: with_timeout() keeps the nearer deadline. Cheap to copy; any thread.
// The clock must outlive the context.
#pragma once

#include <algorithm>
#include <stop_token>

#include "common/clock.h"
#include "common/result.h"

namespace k8sgpu {

class CallContext {
  public:
    CallContext(Clock& clock, SteadyTime deadline, std::stop_token stop)
        : clock_(&clock), deadline_(deadline), stop_(std::move(stop)) {}

    static CallContext with_timeout(Clock& clock, Duration timeout, std::stop_token stop) {
        return {clock, clock.now() + timeout, std::move(stop)};
    }
    // For work that only its owner ends: a watch, a followed log.
    static CallContext until_stopped(Clock& clock, std::stop_token stop) {
        return {clock, SteadyTime::max(), std::move(stop)};
    }

    Clock& clock() const { return *clock_; }
    SteadyTime deadline() const { return deadline_; }
    bool has_deadline() const { return deadline_ != SteadyTime::max(); }
    const std::stop_token& stop() const { return stop_; }

    // Time left, never negative; Duration::max() without a deadline.
    Duration remaining() const {
        if (!has_deadline()) return Duration::max();
        return std::max(Duration::zero(), std::chrono::duration_cast<Duration>(deadline_ - clock_->now()));
    }
    CallContext with_timeout(Duration timeout) const {
        return {*clock_, std::min(deadline_, clock_->now() + timeout), stop_};
    }
    // The same deadline under another owner; the caller links the two stop sources where both matter.
    CallContext with_stop(std::stop_token stop) const { return {*clock_, deadline_, std::move(stop)}; }

    // Cancelled or Timeout once the call should give up; success while it may go on.
    Result<void> check() const {
        if (stop_.stop_requested()) return fail(ErrorKind::Cancelled, "stopped");
        if (has_deadline() && clock_->now() >= deadline_) return fail(ErrorKind::Timeout, "deadline passed");
        return {};
    }

  private:
    Clock* clock_;
    SteadyTime deadline_;
    std::stop_token stop_;
};

}  // namespace k8sgpu
