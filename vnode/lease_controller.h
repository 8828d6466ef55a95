// Keeps the node's Lease in kube-node-lease fresh: the heartbeat by which the cluster tells a live node from
// a dead one (40 s long, renewed every 10 s, kubelet-contract §4.5). Events in, the next call out; no thread,
// no clock, no network. Not synchronised: NodeKeeper's lease thread owns it.
#pragma once

#include <optional>
#include <string>
#include <variant>

#include "common/backoff.h"
#include "common/json.h"
#include "vnode/pod_controller.h"

namespace k8sgpu::vnode {

struct FetchLease {};
struct CreateLease {
    Json lease;
};
struct RenewLease {
    Json lease;  // PUT with the resourceVersion last seen
};
using LeaseCall = std::variant<FetchLease, CreateLease, RenewLease>;

class LeaseController {
  public:
    LeaseController(std::string node_name, std::uint32_t seed);

    // Nothing before the Node exists: its UID makes the lease go when the Node does.
    std::optional<LeaseCall> next(Times now, const std::string& node_uid);
    // Before our end; nullopt unless the lease is known and ours to renew.
    std::optional<LeaseCall> last_renewal(Times now, const std::string& node_uid) const;
    SteadyTime next_wakeup() const { return wakeup_; }

    void on_succeeded(Json lease, const LeaseCall& call, Times now);
    void on_failed(const LeaseCall& call, const Error& error, Times now);

    // When the cluster last took a renewal; nullopt before the first.
    std::optional<SteadyTime> renewed_at() const { return renewed_at_; }

  private:
    Json filled(Json lease, Times now, const std::string& node_uid) const;

    std::string node_name_;
    std::optional<Json> lease_;  // as last seen; nullopt = unknown
    bool absent_ = false;
    Backoff backoff_;
    SteadyTime not_before_{};
    SteadyTime wakeup_{};
    std::optional<SteadyTime> renewed_at_;
};

}  // namespace k8sgpu::vnode
