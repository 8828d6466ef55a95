// One look at what everything on this node uses, made of the providers' readings: what /stats/summary,
// /metrics/resource and /metrics/cadvisor show. Adds what the providers leave to the API: sums of pods and of
// the node, rates from counters, start times from the pods' own statuses.
//
// Shows pods that are on this node now and their containers that run; the rest of a reading is dropped. Where
// no provider measures the machine, the node is the sum of its pods, ended ones included, and of this
// program.
//
// Owned by the server; collect() may be called from any connection thread, several at once.
#pragma once

#include <optional>
#include <vector>

#include "common/call_context.h"
#include "common/guarded.h"
#include "kubelet_api/pod_lookup.h"
#include "kubelet_api/rate_meter.h"
#include "kubelet_api/usage_ledger.h"
#include "providers/port/stats.h"

namespace k8sgpu::kubelet_api {

struct MeasuredPod {
    providers::PodStats stats;  // containers in the pod's own order
    std::shared_ptr<const Json> pod;
};

struct CollectedStats {
    WallTime time;
    providers::NodeStats node;  // without figures when nothing measures
    std::vector<MeasuredPod> pods;
    providers::ContainerStats agent;  // this program
    std::optional<Error> failure;  // of a source that should have answered; the figures of others are there
};

class StatsCollector {
  public:
    // `patience`: for all sources of one look together; metrics-server waits 10 s.
    StatsCollector(Clock& clock, const PodLookup& pods, Duration patience = Duration(8'000))
        : clock_(clock), pods_(pods), patience_(patience) {}

    CollectedStats collect(const CallContext& ctx);

  private:
    struct Memory {
        UsageLedger ledger;
        RateMeter rates;
    };
    void complete(CollectedStats& all, const std::vector<PodView>& known, bool measured);

    Clock& clock_;
    const PodLookup& pods_;
    Duration patience_;
    Guarded<Memory> memory_;
};

}  // namespace k8sgpu::kubelet_api
