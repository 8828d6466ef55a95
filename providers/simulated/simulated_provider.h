// The provider `simulated`: runs nothing and reports what pods would do (script.h). For trying the node, its
// neighbours and what is built on them without a GPU, and for tests.
//
// State is in one file below the state directory (journal.h). Pods live on the wall clock whether an agent
// runs or not: after a restart each is where it would be by now, and none starts twice.
//
// Owned by vnode/app. Threads: provider.h's rules, plus "prov-simulated", which alone calls the observer;
// stop() joins it.
#pragma once

#include <map>
#include <string>

#include "common/guarded.h"
#include "common/thread.h"
#include "providers/port/logs.h"
#include "providers/port/provider.h"
#include "providers/simulated/backend.h"
#include "providers/simulated/journal.h"

namespace k8sgpu::providers::simulated {

struct SimulatedProviderOptions {
    std::string state_directory;  // made when missing
    std::map<std::string, std::string> capacity = {
        {"cpu", "64"}, {"memory", "256Gi"}, {"ephemeral-storage", "1Ti"}, {"nvidia.com/gpu", "8"}};
};

class SimulatedProvider final : public Provider, public LogSource {
  public:
    // `clock` outlives the provider.
    SimulatedProvider(SimulatedProviderOptions options, Clock& clock);
    ~SimulatedProvider() override { stop(); }

    std::string name() const override { return "simulated"; }
    Result<void> start(ProviderObserver& observer) override;
    void stop() override { thread_.stop(); }

    std::optional<Refused> check(const DesiredPod& pod) const override;
    Result<EnsureOutcome> ensure(const DesiredPod& pod, const CallContext& ctx) override;
    Result<void> update(const DesiredPod& pod, const CallContext& ctx) override;
    Result<void> remove(const PodId& pod, std::chrono::seconds grace, const CallContext& ctx) override;
    Result<ObservedPod> observe(const PodId& pod, const CallContext& ctx) override;
    Result<std::vector<ObservedPod>> list(const CallContext& ctx) override;
    Result<std::map<std::string, std::string>> capacity(const CallContext& ctx) override;

    LogSource* logs() override { return this; }
    // One line per container and run: when it started, by this backend's account.
    Result<void> logs(const LogRequest& request, LogSink& sink, const CallContext& ctx) override;

  private:
    struct State {
        SimulatedBackend backend;
        std::vector<ObservedPod> untold;  // changes that prov-simulated passes on
        std::uint64_t next_id = 1;
        bool woken = false;
    };
    void run(ProviderObserver& observer, std::stop_token stop);
    // Wall time that never goes back while we run.
    WallTime now() const;
    SteadyTime steady(WallTime time) const;
    ObservedPod absent(const PodId& pod) const;
    void wake(State& state);

    const SimulatedProviderOptions options_;
    Clock& clock_;
    const SteadyTime began_;
    const WallTime began_wall_;
    Journal journal_;
    Guarded<State> state_;
    std::condition_variable_any changed_;
    Thread thread_;
};

}  // namespace k8sgpu::providers::simulated
