// Readings of a remote cluster in the port's form: PodMetrics of metrics.k8s.io, and a kubelet's summary.
// Pure, but for RateIntegrator's memory.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "common/json.h"
#include "providers/kubernetes/remote_pods.h"
#include "providers/port/stats.h"

namespace k8sgpu::providers::kubernetes {

// A counter out of the rates that metrics.k8s.io gives: each rate is an average over the time since the
// sample before, so their sum over time is the CPU time used since the first window began. Belongs to one
// thread.
class RateIntegrator {
  public:
    // `start` tells runs of a container apart. A sample seen before gives the same counter again.
    std::uint64_t take(const std::string& key, std::optional<WallTime> start, WallTime time,
                       std::chrono::nanoseconds window, std::uint64_t nano_cores);
    void forget_before(WallTime time);

  private:
    struct Counter {
        std::optional<WallTime> start;
        WallTime time;
        std::uint64_t nanos = 0;
    };
    std::map<std::string, Counter> counters_;
};

// The window of a PodMetrics, as Go writes durations ("15.1s", "1m0.5s"); zero when it does not parse.
std::chrono::nanoseconds parse_window(std::string_view text);

// One item of a PodMetricsList for this pod. nullopt when it carries no time.
std::optional<PodStats> from_pod_metrics(const Json& item, const RemotePod& pod, RateIntegrator& counters);

// The pods of ours in the summary of a remote node, known by their remote UID. The node's own figures are the
// provider's business, not the tenant's, and are left out.
std::vector<PodStats> from_summary(const Json& summary,
                                   const std::map<std::string, RemotePod>& by_remote_uid);

}  // namespace k8sgpu::providers::kubernetes
