// Cumulative CPU time of pods and of the node, added up from the counters of containers so that no sum ever
// goes back: a container that restarts begins at zero, and one that ended is measured no more, but what it
// used was used. cgroups do the same for a kubelet.
//
// Pods are told apart by UID. Not safe for several threads; its owner guards it.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>

#include "common/clock.h"

namespace k8sgpu::kubelet_api {

class UsageLedger {
  public:
    // A reading of one container's counter. A new run is known by its start, or, where
    // starts are unknown, by a counter that went back.
    void take(const std::string& pod_uid, const std::string& container, std::optional<WallTime> start,
              std::uint64_t counter);
    // What the pod has used so far; nullopt for one that was never measured.
    std::optional<std::uint64_t> pod_total(const std::string& pod_uid) const;
    // Forgets pods that are gone; what they used stays in total().
    void keep_only(const std::set<std::string>& pod_uids);
    std::uint64_t total() const;

  private:
    struct Container {
        std::optional<WallTime> start;
        std::uint64_t counter = 0;  // of the current run
        std::uint64_t ended = 0;    // of the runs before
    };
    using Pod = std::map<std::string, Container>;
    static std::uint64_t sum(const Pod& pod);

    std::map<std::string, Pod> pods_;
    std::uint64_t gone_ = 0;
};

}  // namespace k8sgpu::kubelet_api
