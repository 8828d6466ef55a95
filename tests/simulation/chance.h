// The only source of chance in a simulated world, so that a seed decides everything. Not the standard
// library's distributions: their results are the library's own business. One thread.
#pragma once

#include <cstdint>
#include <vector>

#include "common/clock.h"

namespace k8sgpu::simulation {

class Chance {
  public:
    explicit Chance(std::uint64_t seed) : state_(seed * 0x9E3779B97F4A7C15ULL + 0x1234567ULL) {}

    // SplitMix64.
    std::uint64_t next() {
        std::uint64_t z = (state_ += 0x9E3779B97F4A7C15ULL);
        z = (z ^ (z >> 30U)) * 0xBF58476D1CE4E5B9ULL;
        z = (z ^ (z >> 27U)) * 0x94D049BB133111EBULL;
        return z ^ (z >> 31U);
    }
    // low … high, both included.
    std::int64_t between(std::int64_t low, std::int64_t high) {
        return low + static_cast<std::int64_t>(next() % static_cast<std::uint64_t>(high - low + 1));
    }
    Duration between(Duration low, Duration high) { return Duration(between(low.count(), high.count())); }
    bool happens(double probability) { return static_cast<double>(next() >> 11U) * 0x1.0p-53 < probability; }
    template <typename T>
    const T& one_of(const std::vector<T>& choices) {
        return choices[static_cast<std::size_t>(between(0, static_cast<std::int64_t>(choices.size()) - 1))];
    }

  private:
    std::uint64_t state_;
};

}  // namespace k8sgpu::simulation
