// Time comes in by the door: everything that waits or stamps takes a Clock, so that tests and simulation own
// it.
//
// SystemClock is the real one. FakeClock (tests) stands still until advance(); wait_for_sleepers(n) returns
// once n threads wait on it, so a test never races the code it drives. All methods may be called from any
// thread. A clock outlives everything that waits on it.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <set>
#include <stop_token>

namespace k8sgpu {

using SteadyTime = std::chrono::steady_clock::time_point;
using WallTime = std::chrono::system_clock::time_point;
using Duration = std::chrono::milliseconds;

class Clock {
  public:
    virtual ~Clock() = default;

    virtual SteadyTime now() const = 0;     // for intervals and deadlines; never jumps
    virtual WallTime wall_now() const = 0;  // for time stamps that people and Kubernetes read

    // Waits on `cv` until pred(), `until` or `stop`; returns pred(). `lock` is held on entry and return.
    virtual bool wait_until(std::condition_variable_any& cv, std::unique_lock<std::mutex>& lock,
                            SteadyTime until, std::stop_token stop, const std::function<bool()>& pred) = 0;

    // Returns false when `stop` ended the sleep early.
    bool sleep_until(SteadyTime until, std::stop_token stop);
    bool sleep_for(Duration duration, std::stop_token stop) {
        return sleep_until(now() + duration, std::move(stop));
    }
};

class SystemClock final : public Clock {
  public:
    SteadyTime now() const override { return std::chrono::steady_clock::now(); }
    WallTime wall_now() const override { return std::chrono::system_clock::now(); }
    bool wait_until(std::condition_variable_any& cv, std::unique_lock<std::mutex>& lock, SteadyTime until,
                    std::stop_token stop, const std::function<bool()>& pred) override;
};

class FakeClock final : public Clock {
  public:
    SteadyTime now() const override;
    WallTime wall_now() const override;
    bool wait_until(std::condition_variable_any& cv, std::unique_lock<std::mutex>& lock, SteadyTime until,
                    std::stop_token stop, const std::function<bool()>& pred) override;

    void advance(Duration by);
    // Moves wall time alone, as an administrator or NTP does.
    void jump_wall(Duration by);
    // Returns once at least `count` waits are pending; false after ten real seconds, so that a test fails
    // instead of hanging.
    bool wait_for_sleepers(std::size_t count);

  private:
    mutable std::mutex mutex_;
    std::condition_variable changed_;
    SteadyTime now_{std::chrono::hours(1)};
    WallTime wall_{std::chrono::seconds(1'700'000'000)};
    std::set<const void*> waiting_;
    std::multiset<std::condition_variable_any*> cvs_;
};

}  // namespace k8sgpu
