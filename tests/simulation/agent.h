// One agent as the simulation runs it: the real controllers, RemotePods and status mapping, and in the place
// of the executors' threads the timeline. The provider's calls are those of
// providers/kubernetes/remote_calls.cc and forwarding.cc, request by request, so that anything may happen
// between two of them. crash() forgets all memory; requests that are under way are executed nevertheless.
#pragma once

#include <memory>
#include <optional>

#include "providers/kubernetes/remote_pods.h"
#include "tests/simulation/local_api.h"
#include "tests/simulation/tenant.h"
#include "vnode/lease_controller.h"
#include "vnode/node_controller.h"
#include "vnode/pod_controller.h"

namespace k8sgpu::simulation {

// Ways to break the agent, to see whether the simulation finds out. All of them are made around the
// controllers, none is a switch in them.
enum class Breakage {
    None,
    BelieveOneLocalList,   // what one local list lacks is gone, without a live question
    BelieveOneRemoteList,  // the same at the provider
    SkipIntent,            // the write of the intent is only pretended
    CreateAgain,           // after a lost answer the copy gets another name instead of being looked for
    NoUidPrecondition,     // deletes name the pod alone
};

struct AgentOptions {
    std::string cluster;
    bool with_node = false;  // registers a Node and keeps its Lease, too
    Breakage breakage = Breakage::None;
    std::uint32_t seed = 1;
};

class Agent final : private kube::ReflectorHandler, private providers::kubernetes::RemotePods::Listener {
  public:
    Agent(AgentOptions options, Timeline& timeline, Chance& chance, LocalApi& local, Link& local_link,
          Tenant& tenant, Link& remote_link);
    ~Agent() override = default;

    void start();
    void crash();
    bool running() const { return pods_.has_value(); }
    void cut_local_watch(bool expired) { local_watch_.cut(expired); }
    void cut_remote_watch(bool expired) { remote_watch_.cut(expired); }

    const providers::kubernetes::OwnerMark& mark() const { return mark_; }
    bool registered() const { return node_ && node_->registered(); }
    std::optional<SteadyTime> lease_renewed_at() const {
        return lease_ ? lease_->renewed_at() : std::nullopt;
    }
    bool with_node() const { return options_.with_node; }

  private:
    using Done = std::function<void(vnode::PodEvent)>;

    // An action that this life of the agent takes, or nobody.
    std::function<void()> bound(std::function<void()> action);
    void later(Duration delay, std::function<void()> action);
    template <typename T>
    void call(Link& link, std::string what, std::function<Result<T>()> run,
              std::function<void(Result<T>)> done) {
        link.call<T>(options_.cluster + " " + std::move(what), std::move(run),
                     [this, life = life_, done = std::move(done)](Result<T> result) {
                         if (life == life_) done(std::move(result));
                     });
    }

    void feed(const vnode::PodEvent& event);
    void plan_tick();
    void carry_out(const vnode::DoEnsure& intent);
    void carry_out(const vnode::DoUpdate& intent);
    void carry_out(const vnode::DoRemove& intent);
    void carry_out(const vnode::DoObserve& intent);
    void carry_out(const vnode::DoConfirmAbsent& intent);
    void carry_out(const vnode::WriteStatus& intent);
    void carry_out(const vnode::DeleteLocal& intent);
    void carry_out(const vnode::RecordEvent& intent);

    // The provider.
    using EnsureDone = std::function<void(Result<providers::EnsureOutcome>)>;
    void ensure(const PodId& id, const kube::ObjectPtr& pod, const EnsureDone& done);
    void adopt(const PodId& id, const std::string& name, const EnsureDone& done);
    void remove(const PodId& id, std::chrono::seconds grace, int attempts, std::optional<std::string> uid,
                const std::function<void(Result<void>)>& done);
    void poll();
    void push_gone(const PodId& id);
    providers::ObservedPod gone(const PodId& id) const;
    std::string copy_name(const PodId& id);

    // The watches' handlers.
    void on_listed(std::vector<kube::ObjectPtr> objects) override;
    void on_applied(kube::ObjectPtr object) override;
    void on_deleted(kube::ObjectPtr object) override;
    void on_present(const providers::kubernetes::RemotePod& pod) override;
    void on_gone(const providers::kubernetes::RemotePod& pod) override;
    void on_vanished(const providers::kubernetes::RemotePod& pod) override;
    void on_watching() override {}
    void on_watch_failed(const Error&) override {}

    // Hands on to the RemotePods of this life.
    class RemoteHandler final : public kube::ReflectorHandler {
      public:
        explicit RemoteHandler(Agent& agent) : agent_(agent) {}
        void on_listed(std::vector<kube::ObjectPtr> objects) override {
            agent_.remote_->on_listed(std::move(objects));
        }
        void on_applied(kube::ObjectPtr object) override { agent_.remote_->on_applied(std::move(object)); }
        void on_deleted(kube::ObjectPtr object) override { agent_.remote_->on_deleted(std::move(object)); }

      private:
        Agent& agent_;
    };

    void turn_node();
    void turn_lease();

    const AgentOptions options_;
    Timeline& timeline_;
    Chance& chance_;
    LocalApi& local_;
    Link& local_link_;
    Tenant& tenant_;
    Link& remote_link_;
    const providers::kubernetes::OwnerMark mark_;

    std::uint64_t life_ = 0;
    std::optional<vnode::PodController> pods_;
    std::optional<vnode::NodeController> node_;
    std::optional<vnode::LeaseController> lease_;
    std::unique_ptr<providers::kubernetes::RemotePods> remote_;
    RemoteHandler remote_handler_{*this};
    Watch local_watch_;
    Watch remote_watch_;
    SteadyTime planned_tick_{SteadyTime::max()};
    std::map<std::string, int> attempts_;  // of creates, by UID; for CreateAgain
};

}  // namespace k8sgpu::simulation
