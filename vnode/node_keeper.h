// Runs the NodeController and the LeaseController: one thread for the Node, one for the Lease, each with
// calls of its own, so that the heartbeat never waits behind anything slow. A watch on our Node brings
// foreign changes within moments.
//
// Threads: "node" and "lease" (own), "watch-node" (the reflector's). Owned by App; start() once, stop()
// idempotent, joins.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "common/guarded.h"
#include "common/thread.h"
#include "kube/api_client.h"
#include "kube/reflector.h"
#include "vnode/lease_controller.h"
#include "vnode/node_controller.h"

namespace k8sgpu::vnode {

class NodeKeeper final : public kube::ReflectorHandler {
  public:
    NodeKeeper(NodeConfig config, NodeFacts facts, Clock& clock, kube::ApiClient& client, std::uint32_t seed,
               NodeController::InUse in_use = nullptr);
    ~NodeKeeper() override { stop(); }

    void start();
    void stop();

    // Changes what is reported; any thread. Posted at once when it differs.
    void update_facts(const std::function<void(NodeFacts&)>& change);

    bool registered() const { return node_.lock()->registered(); }
    std::string problem() const { return node_.lock()->problem(); }
    std::string node_uid() const { return node_.lock()->node_uid(); }
    std::optional<SteadyTime> lease_renewed_at() const { return *renewed_at_.lock(); }
    SteadyTime last_node_tick() const { return *node_tick_.lock(); }
    SteadyTime last_lease_tick() const { return *lease_tick_.lock(); }

    void on_listed(std::vector<kube::ObjectPtr> objects) override;
    void on_applied(kube::ObjectPtr object) override;
    void on_deleted(kube::ObjectPtr object) override;

  private:
    void run_node(std::stop_token stop);
    void run_lease(std::stop_token stop);
    Result<Json> make(const NodeCall& call, const CallContext& ctx);
    Result<Json> make(const LeaseCall& call, const CallContext& ctx);
    void wake();
    Times times() const { return {clock_.now(), clock_.wall_now()}; }

    NodeConfig config_;
    Clock& clock_;
    kube::ApiClient& client_;
    Guarded<NodeController> node_;
    Guarded<std::optional<SteadyTime>> renewed_at_;
    Guarded<SteadyTime> node_tick_;
    Guarded<SteadyTime> lease_tick_;
    Guarded<bool> woken_;
    std::condition_variable_any wake_;
    LeaseController lease_;  // lease thread only
    kube::Reflector watch_;
    Thread node_thread_;
    Thread lease_thread_;
};

}  // namespace k8sgpu::vnode
