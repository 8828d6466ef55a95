// Guarded<T>: data that can only be reached while its mutex is held.
//
//   Guarded<std::map<…>> pods_;
//   pods_.lock()->insert(…);              // one expression
//   auto pods = pods_.lock(); …           // a scope
//   pods.wait(clock, cv, until, stop, [&] { return !pods->empty(); });
//
// Never call the network, a provider or a callback while a lock is held.
#pragma once

#include <condition_variable>
#include <mutex>
#include <utility>

#include "common/clock.h"

namespace k8sgpu {

template <typename T>
class Guarded {
  public:
    class Lock {
      public:
        explicit Lock(Guarded& owner) : lock_(owner.mutex_), value_(&owner.value_) {}
        T* operator->() { return value_; }
        T& operator*() { return *value_; }
        void unlock() { lock_.unlock(); }
        template <typename Pred>
        bool wait_until(Clock& clock, std::condition_variable_any& cv, SteadyTime until, std::stop_token stop,
                        Pred pred) {
            return clock.wait_until(cv, lock_, until, std::move(stop), pred);
        }

      private:
        std::unique_lock<std::mutex> lock_;
        T* value_;
    };

    Guarded() = default;
    template <typename... Args>
    explicit Guarded(std::in_place_t, Args&&... args) : value_(std::forward<Args>(args)...) {}

    [[nodiscard]] Lock lock() const { return Lock(const_cast<Guarded&>(*this)); }

  private:
    mutable std::mutex mutex_;
    T value_{};
};

}  // namespace k8sgpu
