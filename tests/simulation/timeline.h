// Virtual time: actions wait for their moment, the earliest runs next, one at a time. Two of the same moment
// run in the order in which they were planned. Every step goes into a trace, of which a hash covers all and
// the last lines are kept.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <string>
#include <utility>

#include <fmt/format.h>

#include "vnode/pod_controller.h"

namespace k8sgpu::simulation {

class Timeline {
  public:
    using Action = std::function<void()>;

    vnode::Times times() const { return {now_, wall_begin_ + (now_ - kBegin) + wall_offset_}; }
    SteadyTime now() const { return now_; }
    // Wall time of those whose clock nobody touches.
    WallTime true_wall() const { return wall_begin_ + (now_ - kBegin); }
    void jump_wall(Duration by) { wall_offset_ += by; }
    Duration elapsed() const { return std::chrono::duration_cast<Duration>(now_ - kBegin); }

    void after(Duration delay, Action action) { at(now_ + delay, std::move(action)); }
    void at(SteadyTime when, Action action) {
        waiting_.emplace(std::pair(std::max(when, now_), ++planned_), std::move(action));
    }

    // Runs the next action; false when nothing waits.
    bool step() {
        if (waiting_.empty()) return false;
        auto node = waiting_.extract(waiting_.begin());
        now_ = node.key().first;
        ++steps_;
        node.mapped()();
        return true;
    }

    template <typename... Args>
    void trace(fmt::format_string<Args...> text, Args&&... args) {
        note(fmt::format(text, std::forward<Args>(args)...));
    }

    std::uint64_t steps() const { return steps_; }
    std::uint64_t hash() const { return hash_; }
    const std::deque<std::string>& last_lines() const { return lines_; }
    void keep_lines(std::size_t count) { kept_ = count; }

  private:
    static constexpr SteadyTime kBegin{std::chrono::hours(1)};

    void note(const std::string& text) {
        const auto count = static_cast<std::uint64_t>(elapsed().count());
        for (unsigned shift = 0; shift < 64; shift += 8) mix(static_cast<unsigned char>(count >> shift));
        for (const char c : text) mix(static_cast<unsigned char>(c));
        if (kept_ == 0) return;
        lines_.push_back(
            fmt::format("{:>6} {:>9.3f} s  {}", steps_, static_cast<double>(count) / 1000, text));
        if (lines_.size() > kept_) lines_.pop_front();
    }
    void mix(unsigned char byte) { hash_ = (hash_ ^ byte) * 0x100000001B3ULL; }  // FNV-1a

    SteadyTime now_ = kBegin;
    const WallTime wall_begin_{std::chrono::seconds(1'767'225'600)};
    Duration wall_offset_{0};
    std::map<std::pair<SteadyTime, std::uint64_t>, Action> waiting_;
    std::uint64_t planned_ = 0;
    std::uint64_t steps_ = 0;
    std::uint64_t hash_ = 0xCBF29CE484222325ULL;
    std::size_t kept_ = 0;
    std::deque<std::string> lines_;
};

}  // namespace k8sgpu::simulation
