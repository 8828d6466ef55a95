// What our pods use at the remote cluster: by its metrics API (metrics.k8s.io, one list of the tenant
// namespace) where it is served and our Role has the rule, else by the summaries of the remote nodes that our
// pods are on (nodes/proxy, which few operators give to a tenant), else nothing: Unsupported.
//
// A reading is kept for some seconds. One caller at a time makes the next; others get the one before it if it
// is not old, or wait. What was refused is asked again only after minutes. Any thread.
#pragma once

#include <condition_variable>
#include <string>

#include "common/guarded.h"
#include "kube/api_client.h"
#include "providers/kubernetes/remote_pods.h"
#include "providers/kubernetes/stats_decode.h"
#include "providers/port/stats.h"

namespace k8sgpu::providers::kubernetes {

class RemoteStats final : public StatsSource {
  public:
    RemoteStats(kube::ApiClient& remote, const RemotePods& pods, std::string ns, OwnerMark owner)
        : remote_(remote), pods_(pods), namespace_(std::move(ns)), owner_(std::move(owner)) {}

    Result<StatsReport> stats(const CallContext& ctx) override;

  private:
    struct State {
        bool refreshing = false;
        std::optional<Result<StatsReport>> last;
        SteadyTime taken{};
    };
    // Belongs to whoever refreshes.
    struct Sources {
        SteadyTime ask_metrics_api{}, ask_nodes{};  // not before
        bool said_absent = false;
        bool nodes_answered = false;
        RateIntegrator counters;
    };
    Result<StatsReport> read(const CallContext& ctx);
    Result<StatsReport> from_metrics_api(const CallContext& ctx);
    Result<StatsReport> from_nodes(const CallContext& ctx);

    kube::ApiClient& remote_;
    const RemotePods& pods_;
    const std::string namespace_;
    const OwnerMark owner_;
    Guarded<State> state_;
    std::condition_variable_any changed_;
    Sources sources_;
};

}  // namespace k8sgpu::providers::kubernetes
