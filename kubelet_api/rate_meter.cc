#include "kubelet_api/rate_meter.h"

namespace k8sgpu::kubelet_api {

namespace {

using Nanos = std::chrono::nanoseconds;

constexpr Nanos kWindow = std::chrono::seconds(10);
constexpr Nanos kShortest = std::chrono::seconds(1);
constexpr Nanos kLongest = std::chrono::minutes(5);

std::uint64_t rate_of(std::uint64_t used, Nanos elapsed) {
    return static_cast<std::uint64_t>(static_cast<double>(used) * 1e9 / static_cast<double>(elapsed.count()));
}

}  // namespace

std::optional<std::uint64_t> RateMeter::take(const std::string& key, WallTime time, std::uint64_t counter) {
    const auto [found, fresh] = readings_.try_emplace(key, Reading{time, counter, {}});
    Reading& last = found->second;
    if (fresh) return std::nullopt;
    const Nanos elapsed = time - last.time;
    // An older reading, overtaken by another request's.
    if (elapsed < Nanos::zero() && elapsed > -kWindow) return last.rate;
    // The container restarted, the clock was set, or nobody asked for long: begin anew.
    if (counter < last.counter || elapsed < Nanos::zero() || elapsed > kLongest) {
        last = {time, counter, {}};
        return std::nullopt;
    }
    if (elapsed < kWindow) {
        if (last.rate || elapsed < kShortest) return last.rate;
        return rate_of(counter - last.counter, elapsed);
    }
    last = {time, counter, rate_of(counter - last.counter, elapsed)};
    return last.rate;
}

void RateMeter::forget_before(WallTime now) {
    for (auto it = readings_.begin(); it != readings_.end();) {
        it = now - it->second.time > 2 * kLongest ? readings_.erase(it) : std::next(it);
    }
}

}  // namespace k8sgpu::kubelet_api
