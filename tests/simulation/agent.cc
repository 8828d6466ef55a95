#include "tests/simulation/agent.h"

#include "providers/kubernetes/status_map.h"
#include "tests/simulation/objects.h"

namespace k8sgpu::simulation {

using namespace vnode;
using providers::Accepted;
using providers::EnsureOutcome;
using providers::ObservedPod;
using providers::Refused;
using providers::kubernetes::RemotePod;
using providers::kubernetes::RemotePods;

namespace {

constexpr Duration kPoll{30'000};
constexpr Duration kPollAfterFailure{2'000};
constexpr Duration kVerifyAgain{5'000};
constexpr int kRemoveAttempts = 3;

bool ours(const Json& pod) {
    return string_at(pod, {"spec", "nodeName"}) == "k8s.gpu";
}

}  // namespace

Agent::Agent(AgentOptions options, Timeline& timeline, Chance& chance, LocalApi& local, Link& local_link,
             Tenant& tenant, Link& remote_link)
    : options_(std::move(options)),
      timeline_(timeline),
      chance_(chance),
      local_(local),
      local_link_(local_link),
      tenant_(tenant),
      remote_link_(remote_link),
      mark_{options_.cluster, "k8s.gpu"},
      local_watch_(timeline, chance, local_link, local, options_.cluster + " pods", ours, *this),
      remote_watch_(
          timeline, chance, remote_link, tenant, options_.cluster + " rpods",
          [this](const Json& pod) {
              return string_at(pod, {"metadata", "labels", providers::kubernetes::kClusterLabel}) ==
                     options_.cluster;
          },
          remote_handler_) {
    local.subscribe([this] { local_watch_.look(); });
    tenant.subscribe([this] { remote_watch_.look(); });
}

void Agent::start() {
    if (running()) return;
    timeline_.trace("agent of {} starts", options_.cluster);
    ++life_;
    const auto seed = options_.seed + static_cast<std::uint32_t>(life_);
    pods_.emplace(PodControllerOptions{"k8s.gpu", "simulated", "192.0.2.10", PodIpPolicy::Remote, seed},
                  [](const providers::DesiredPod& pod) -> std::optional<Refused> {
                      const auto script = providers::simulated::read_script(pod.pod);
                      if (script) return std::nullopt;
                      return Refused{"UnexpectedAdmissionError", script.error().message};
                  });
    remote_ = std::make_unique<RemotePods>(mark_, static_cast<RemotePods::Listener&>(*this));
    planned_tick_ = SteadyTime::max();
    if (options_.with_node) {
        NodeConfig config;
        config.node_ip = "192.0.2.10";
        config.provider = "simulated";
        config.version = "0.0.0";
        node_.emplace(config, seed);
        lease_.emplace(config.name, seed);
        turn_node();
        turn_lease();
    }
    local_watch_.start();
    remote_watch_.start();
    poll();
}

void Agent::crash() {
    if (!running()) return;
    timeline_.trace("agent of {} dies", options_.cluster);
    ++life_;
    local_watch_.stop();
    remote_watch_.stop();
    pods_.reset();
    node_.reset();
    lease_.reset();
    remote_.reset();
}

std::function<void()> Agent::bound(std::function<void()> action) {
    return [this, life = life_, action = std::move(action)] {
        if (life == life_) action();
    };
}

void Agent::later(Duration delay, std::function<void()> action) {
    timeline_.after(delay, bound(std::move(action)));
}

void Agent::feed(const PodEvent& event) {
    const auto intents = pods_->step(event, timeline_.times());
    for (const PodIntent& intent : intents) {
        std::visit(
            [this](const auto& i) {
                if constexpr (std::is_same_v<std::decay_t<decltype(i)>, RecordEvent>) {
                    carry_out(i);
                } else {
                    // It waits for a thread of its lane.
                    later(local_link_.latency(), [this, i] { carry_out(i); });
                }
            },
            intent);
    }
    plan_tick();
}

void Agent::plan_tick() {
    const auto due = pods_->next_wakeup();
    if (!due || *due >= planned_tick_) return;
    planned_tick_ = *due;
    timeline_.at(*due, bound([this, due = *due] {
        if (due != planned_tick_) return;
        planned_tick_ = SteadyTime::max();
        feed(Tick{});
    }));
}

// ---- the two lanes
// ------------------------------------------------------------------------------------------------

void Agent::carry_out(const DoEnsure& intent) {
    if (!pods_->still_wanted(intent, timeline_.times().now)) {
        feed(WorkDone{intent.id, EnsureResult{fail(ErrorKind::Cancelled, "not wanted any more"), ""}});
        return;
    }
    timeline_.trace("{} ensures {}", options_.cluster, intent.id.uid);
    ensure(intent.id, intent.pod, [this, intent](Result<EnsureOutcome> outcome) {
        feed(WorkDone{intent.id, EnsureResult{std::move(outcome), intent.digest}});
    });
}

void Agent::carry_out(const DoUpdate& intent) {
    call<Json>(
        remote_link_, "update of " + intent.id.uid,
        [this, name = copy_name(intent.id)] { return tenant_.get(name); },
        [this, intent](Result<Json> object) {
            const Result<void> done = object ? Result<void>() : fail(object.error());
            feed(WorkDone{intent.id, UpdateResult{done, intent.digest}});
        });
}

void Agent::carry_out(const DoRemove& intent) {
    timeline_.trace("{} removes {} with grace {}", options_.cluster, intent.id.uid, intent.grace.count());
    const auto grace = std::max(intent.grace, std::chrono::seconds(1));
    std::optional<std::string> uid;
    if (const auto known = remote_->find(intent.id.uid)) {
        const bool shorter =
            grace.count() < int_at(*known->object, {"metadata", "deletionGracePeriodSeconds"});
        if (kube::is_deleting(*known->object) && !shorter) {
            feed(WorkDone{intent.id, RemoveResult{{}, intent.grace}});
            return;
        }
        uid = kube::uid_of(*known->object);
    }
    remove(intent.id, grace, kRemoveAttempts, uid, [this, intent](Result<void> outcome) {
        feed(WorkDone{intent.id, RemoveResult{std::move(outcome), intent.grace}});
    });
}

void Agent::carry_out(const DoObserve& intent) {
    if (options_.breakage == Breakage::BelieveOneRemoteList) {
        feed(WorkDone{intent.id, ObserveResult{gone(intent.id)}});
        return;
    }
    call<Json>(
        remote_link_, "look at " + intent.id.uid,
        [this, name = copy_name(intent.id)] { return tenant_.get(name); },
        [this, intent](Result<Json> object) {
            Result<ObservedPod> seen = gone(intent.id);
            if (object) {
                seen = providers::kubernetes::observed_from(intent.id, *object);
            } else if (object.error().kind != ErrorKind::NotFound) {
                seen = fail(object.error());
            }
            feed(WorkDone{intent.id, ObserveResult{std::move(seen)}});
        });
}

void Agent::carry_out(const DoConfirmAbsent& intent) {
    if (options_.breakage == Breakage::BelieveOneLocalList) {
        feed(WorkDone{intent.id, ConfirmResult{true}});
        return;
    }
    call<bool>(
        local_link_, "confirm that " + intent.id.uid + " is gone",
        [this, uid = intent.id.uid]() -> Result<bool> { return local_.pod(uid) == nullptr; },
        [this, intent](Result<bool> absent) {
            feed(WorkDone{intent.id, ConfirmResult{std::move(absent)}});
        });
}

void Agent::carry_out(const WriteStatus& intent) {
    const bool for_intent =
        dump_json(intent.patch).find(R"("reason":"Forwarding","status":"Unknown")") != std::string::npos;
    if (options_.breakage == Breakage::SkipIntent && for_intent) {
        if (const auto pod = local_.pod(intent.id.uid)) {
            Json pretended = *pod;
            strategic_merge(pretended["status"], intent.patch.at("status"));
            feed(StatusDone{intent.id, false, std::move(pretended)});
            return;
        }
    }
    call<Json>(
        local_link_, "status of " + intent.id.uid,
        [this, intent] { return local_.patch_status(intent.id, intent.patch, options_.cluster); },
        [this, intent](Result<Json> object) {
            feed(StatusDone{intent.id, false, std::move(object)});
        });
}

void Agent::carry_out(const DeleteLocal& intent) {
    std::optional<std::string> uid = intent.id.uid;
    if (options_.breakage == Breakage::NoUidPrecondition) uid.reset();
    call<void>(
        local_link_, "final delete of " + intent.id.uid,
        [this, intent, uid] {
            return local_.delete_pod(intent.id.ns, intent.id.name, uid, 0, options_.cluster);
        },
        [this, intent](Result<void> removed) {
            feed(StatusDone{intent.id, true,
                            removed ? Result<Json>(Json()) : Result<Json>(fail(removed.error()))});
        });
}

void Agent::carry_out(const RecordEvent& intent) {
    timeline_.trace("{} event on {}: {}", options_.cluster,
                    intent.pod == nullptr ? "?" : kube::uid_of(*intent.pod), intent.reason);
}

// ---- the provider
// -------------------------------------------------------------------------------------------------

std::string Agent::copy_name(const PodId& id) {
    return providers::kubernetes::remote_pod_name(id);
}

void Agent::ensure(const PodId& id, const kube::ObjectPtr& pod, const EnsureDone& done) {
    if (remote_->find(id.uid)) return done(EnsureOutcome(Accepted{}));
    if (remote_link_.unreliable() && chance_.happens(0.05)) {
        return done(EnsureOutcome(providers::Blocked{
            "CreateContainerConfigError", "configmap \"x\" not found", {}, "Failed", "no configmap"}));
    }
    std::string name = copy_name(id);
    if (options_.breakage == Breakage::CreateAgain) {
        const int attempt = attempts_[id.uid]++;
        if (attempt > 0) name += fmt::format("-{}", attempt);
    }
    const auto waiting = std::make_shared<bool>(true);
    call<Json>(
        remote_link_, "create " + name,
        [this, name, id, pod, sent = timeline_.now(), life = life_, waiting] {
            const bool dead = life != life_;
            return tenant_.create(name, mark_, id, *pod, options_.cluster, {sent, dead || !*waiting, dead});
        },
        [this, name, id, done, waiting](Result<Json> created) {
            *waiting = false;
            if (created) return done(EnsureOutcome(Accepted{}));
            if (created.error().kind == ErrorKind::AlreadyExists) return adopt(id, name, done);
            done(fail(created.error()));
        });
}

void Agent::adopt(const PodId& id, const std::string& name, const EnsureDone& done) {
    call<Json>(
        remote_link_, "look at " + name, [this, name] { return tenant_.get(name); },
        [this, id, done](Result<Json> existing) {
            if (!existing && existing.error().kind != ErrorKind::NotFound)
                return done(fail(existing.error()));
            if (!existing) {
                push_gone(id);
                return done(EnsureOutcome(Accepted{}));
            }
            if (providers::kubernetes::marked_pod(*existing, mark_) == id)
                return done(EnsureOutcome(Accepted{}));
            done(EnsureOutcome(Refused{"NameConflict", "the name is taken"}));
        });
}

void Agent::remove(const PodId& id, std::chrono::seconds grace, int attempts, std::optional<std::string> uid,
                   const std::function<void(Result<void>)>& done) {
    const std::string name = copy_name(id);
    if (!uid) {
        call<Json>(
            remote_link_, "look at " + name, [this, name] { return tenant_.get(name); },
            [this, id, grace, attempts, done](Result<Json> object) {
                if (object) return remove(id, grace, attempts, kube::uid_of(*object), done);
                if (object.error().kind != ErrorKind::NotFound) return done(fail(object.error()));
                push_gone(id);
                done({});
            });
        return;
    }
    std::optional<std::string> precondition = uid;
    if (options_.breakage == Breakage::NoUidPrecondition) precondition.reset();
    call<void>(
        remote_link_, "delete " + name,
        [this, name, precondition, grace] {
            return tenant_.remove(name, precondition, grace, options_.cluster);
        },
        [this, id, grace, attempts, done](Result<void> removed) {
            if (removed) return done({});
            const ErrorKind kind = removed.error().kind;
            const bool look_again = kind == ErrorKind::NotFound || kind == ErrorKind::Conflict;
            if (!look_again || attempts <= 1) return done(fail(removed.error()));
            remove(id, grace, attempts - 1, std::nullopt, done);
        });
}

void Agent::poll() {
    const SteadyTime started = timeline_.now();
    call<std::vector<Json>>(
        remote_link_, "list of copies",
        [this]() -> Result<std::vector<Json>> {
            std::uint64_t version = tenant_.version();
            if (remote_link_.unreliable() && chance_.happens(0.05))
                version -= std::min(version, static_cast<std::uint64_t>(chance_.between(1, 10)));
            return tenant_.list(mark_, version);
        },
        [this, started](Result<std::vector<Json>> objects) {
            later(objects ? kPoll : kPollAfterFailure, [this] { poll(); });
            if (!objects) return;
            std::vector<ObservedPod> pods;
            for (const Json& object : *objects) {
                const auto id = providers::kubernetes::marked_pod(object, mark_);
                if (id) pods.push_back(providers::kubernetes::observed_from(*id, object));
            }
            feed(BackendListed{std::move(pods), started});
        });
}

ObservedPod Agent::gone(const PodId& id) const {
    if (const auto known = remote_->find(id.uid)) return providers::kubernetes::gone_from(id, *known->object);
    return {id, Json::object(), false, false, true, ""};
}

void Agent::push_gone(const PodId& id) {
    feed(BackendChanged{gone(id)});
}

void Agent::on_present(const RemotePod& pod) {
    feed(BackendChanged{providers::kubernetes::observed_from(pod.id, *pod.object)});
}

void Agent::on_gone(const RemotePod& pod) {
    feed(BackendChanged{providers::kubernetes::gone_from(pod.id, *pod.object)});
}

void Agent::on_vanished(const RemotePod& pod) {
    if (remote_->find(pod.id.uid)) return;
    call<Json>(
        remote_link_, "look after " + pod.id.uid,
        [this, name = copy_name(pod.id)] { return tenant_.get(name); },
        [this, pod](Result<Json> object) {
            if (remote_->find(pod.id.uid)) return;
            const bool other = object && kube::uid_of(*object) != kube::uid_of(*pod.object);
            if (other || (!object && object.error().kind == ErrorKind::NotFound)) return on_gone(pod);
            later(kVerifyAgain, [this, pod] { on_vanished(pod); });
        });
}

// ---- the local watch
// ----------------------------------------------------------------------------------------------

void Agent::on_listed(std::vector<kube::ObjectPtr> objects) {
    feed(LocalListed{std::move(objects)});
}
void Agent::on_applied(kube::ObjectPtr object) {
    feed(LocalApplied{std::move(object)});
}
void Agent::on_deleted(kube::ObjectPtr object) {
    feed(LocalDeleted{std::move(object)});
}

// ---- Node and Lease
// -----------------------------------------------------------------------------------------------

void Agent::turn_node() {
    const auto next = node_->next(timeline_.times());
    if (!next) {
        const SteadyTime soon = timeline_.now() + Duration(10'000);
        timeline_.at(std::min(node_->next_wakeup(), soon), bound([this] { turn_node(); }));
        return;
    }
    call<Json>(
        local_link_, "node",
        [this, next = *next]() -> Result<Json> {
            if (const auto* create = std::get_if<CreateNode>(&next)) {
                Json node = create->node;
                node["kind"] = "Node";
                return local_.create_other(node);
            }
            if (const auto* patch = std::get_if<PatchNode>(&next))
                return local_.patch_other("Node", "k8s.gpu", patch->patch);
            return local_.get_other("Node", "k8s.gpu");
        },
        [this, next = *next](Result<Json> answer) {
            if (answer) {
                node_->on_node(std::make_shared<const Json>(std::move(*answer)));
                node_->on_succeeded(next, timeline_.times());
            } else {
                node_->on_failed(next, answer.error(), timeline_.times());
            }
            turn_node();
        });
}

void Agent::turn_lease() {
    const auto next = lease_->next(timeline_.times(), node_->node_uid());
    if (!next) {
        const SteadyTime soon = timeline_.now() + Duration(5'000);
        timeline_.at(std::min(lease_->next_wakeup(), soon), bound([this] { turn_lease(); }));
        return;
    }
    call<Json>(
        local_link_, "lease",
        [this, next = *next]() -> Result<Json> {
            if (const auto* create = std::get_if<CreateLease>(&next))
                return local_.create_other(create->lease);
            if (const auto* renew = std::get_if<RenewLease>(&next)) return local_.replace_other(renew->lease);
            return local_.get_other("Lease", "k8s.gpu");
        },
        [this, next = *next](Result<Json> answer) {
            if (answer) {
                lease_->on_succeeded(std::move(*answer), next, timeline_.times());
            } else {
                lease_->on_failed(next, answer.error(), timeline_.times());
            }
            turn_lease();
        });
}

}  // namespace k8sgpu::simulation
