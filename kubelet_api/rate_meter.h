// CPU in nanocores from two readings of a counter, for sources that have counters only. The window is some
// ten seconds, as cAdvisor's: readings that come faster get the rate of the last whole window, and readings
// too far apart give none, because an average over minutes is not what "now" means.
//
// Not safe for several threads; its owner guards it.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "common/clock.h"

namespace k8sgpu::kubelet_api {

class RateMeter {
  public:
    // nullopt until there is something to compare with.
    std::optional<std::uint64_t> take(const std::string& key, WallTime time, std::uint64_t counter);
    // Forgets keys of which nothing was heard for longer than any rate could be made of.
    void forget_before(WallTime now);

  private:
    struct Reading {
        WallTime time;
        std::uint64_t counter = 0;
        std::optional<std::uint64_t> rate;  // of the window before `time`
    };
    std::map<std::string, Reading> readings_;
};

}  // namespace k8sgpu::kubelet_api
