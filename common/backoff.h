// Exponential back-off with jitter. Pure: the caller waits. One instance belongs to one retry loop or key and
// is not synchronised.
#pragma once

#include <chrono>
#include <cstdint>
#include <random>

#include "common/clock.h"

namespace k8sgpu {

struct BackoffPolicy {
    Duration initial{200};
    Duration cap{30'000};
    double factor = 2.0;
    double jitter = 0.2;  // the delay is drawn from [d × (1 − jitter), d × (1 + jitter)]
};

class Backoff {
  public:
    explicit Backoff(BackoffPolicy policy, std::uint32_t seed = std::random_device{}())
        : policy_(policy), random_(seed), next_(policy.initial) {}

    // The delay before the next attempt; each call makes the one after it longer.
    Duration next();
    void reset() {
        next_ = policy_.initial;
        attempts_ = 0;
    }
    int attempts() const { return attempts_; }

  private:
    BackoffPolicy policy_;
    std::minstd_rand random_;
    Duration next_;
    int attempts_ = 0;
};

}  // namespace k8sgpu
