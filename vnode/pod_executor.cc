#include "vnode/pod_executor.h"

#include <algorithm>

#include "common/log.h"
#include "kube/object.h"

namespace k8sgpu::vnode {
namespace {

// pod-loop runs at least this often, so that a liveness probe can tell a stuck one from an idle one.
constexpr Duration kLoopAtLeast{5'000};
constexpr Duration kRelistAfterFailure{2'000};

}  // namespace

PodExecutor::PodExecutor(PodExecutorOptions options, Clock& clock, kube::ApiClient& local,
                         providers::Provider& provider, MetricsRegistry& metrics, EventSink events,
                         PodGoneHook gone, std::function<void(bool, const std::string&)> reachable)
    : options_(options),
      clock_(clock),
      local_(local),
      provider_(provider),
      events_(std::move(events)),
      gone_(std::move(gone)),
      reachable_(std::move(reachable)),
      metrics_(metrics, options.controller.node_name, options.controller.provider_name),
      controller_(std::in_place, options.controller,
                  [&provider](const providers::DesiredPod& pod) { return provider.check(pod); }),
      last_tick_(std::in_place, clock.now()),
      work_(clock, "pod-work", options.work_threads),
      status_(clock, "status", options.status_threads) {}

void PodExecutor::start() {
    loop_ = Thread("pod-loop", [this](std::stop_token stop) { loop(std::move(stop)); });
    poll_ = Thread("backend-poll", [this](std::stop_token stop) { poll_backend(std::move(stop)); });
}

void PodExecutor::stop(SteadyTime flush_until) {
    poll_.stop();
    loop_.stop();
    work_.stop();
    if (!status_.wait_idle(flush_until)) {
        log().warn("not all pod statuses could be written before the end; the next start writes them");
    }
    status_.stop();
}

void PodExecutor::dispatch(const PodEvent& event) {
    std::vector<PodIntent> intents = controller_.lock()->step(event, {clock_.now(), clock_.wall_now()});
    for (auto& intent : intents) carry_out(std::move(intent));
    *woken_.lock() = true;
    wake_.notify_all();
}

void PodExecutor::carry_out(PodIntent intent) {
    if (const auto* event = std::get_if<RecordEvent>(&intent)) {
        metrics_.pod_event(event->reason);
        if (event->pod != nullptr) events_(*event->pod, event->type, event->reason, event->message);
        return;
    }
    const bool for_status =
        std::holds_alternative<WriteStatus>(intent) || std::holds_alternative<DeleteLocal>(intent);
    TaskPool& lane = for_status ? status_ : work_;
    lane.add([this, intent = std::move(intent)](std::stop_token stop) {
        std::visit(
            [&](const auto& i) {
                if constexpr (!std::is_same_v<std::decay_t<decltype(i)>, RecordEvent>) run(i, stop);
            },
            intent);
    });
}

void PodExecutor::run(const DoEnsure& intent, std::stop_token stop) {
    if (!controller_.lock()->still_wanted(intent, clock_.now())) {
        dispatch(WorkDone{intent.id, EnsureResult{fail(ErrorKind::Cancelled, "not wanted any more"), ""}});
        return;
    }
    log().debug("{}: ensuring at {}", intent.id, provider_.name());
    auto outcome = measured("ensure", [&] { return provider_.ensure({intent.id, *intent.pod}, call(stop)); });
    dispatch(WorkDone{intent.id, EnsureResult{std::move(outcome), intent.digest}});
}

void PodExecutor::run(const DoUpdate& intent, std::stop_token stop) {
    auto outcome = measured("update", [&] { return provider_.update({intent.id, *intent.pod}, call(stop)); });
    dispatch(WorkDone{intent.id, UpdateResult{std::move(outcome), intent.digest}});
}

void PodExecutor::run(const DoRemove& intent, std::stop_token stop) {
    log().debug("{}: removing at {} with grace {} s", intent.id, provider_.name(), intent.grace.count());
    auto outcome = measured("remove", [&] { return provider_.remove(intent.id, intent.grace, call(stop)); });
    dispatch(WorkDone{intent.id, RemoveResult{std::move(outcome), intent.grace}});
}

void PodExecutor::run(const DoObserve& intent, std::stop_token stop) {
    auto outcome = measured("observe", [&] { return provider_.observe(intent.id, call(stop)); });
    dispatch(WorkDone{intent.id, ObserveResult{std::move(outcome)}});
}

Result<kube::ObjectPtr> PodExecutor::find_live(const PodId& id, std::stop_token stop) {
    // A quorum read: the watch cache may lag behind what another API server has committed. And a list,
    // because a node identity may get only pods that are there; asking for one that has gone is answered with
    // Forbidden.
    kube::ListOptions query;
    query.field_selector =
        fmt::format("metadata.name={},spec.nodeName={}", id.name, options_.controller.node_name);
    auto pods = local_.list(kube::resources::kPods, id.ns, query, call(std::move(stop)));
    if (!pods) return fail(pods.error());
    for (Json& pod : pods->items) {
        if (kube::uid_of(pod) == id.uid) return std::make_shared<const Json>(std::move(pod));
    }
    return kube::ObjectPtr();
}

void PodExecutor::run(const DoConfirmAbsent& intent, std::stop_token stop) {
    const auto pod = find_live(intent.id, std::move(stop));
    const Result<bool> absent = pod ? Result<bool>(*pod == nullptr) : fail(pod.error());
    if (absent && *absent) log().info("{}: gone from the local cluster; its copy ends", intent.id);
    dispatch(WorkDone{intent.id, ConfirmResult{absent}});
}

void PodExecutor::run(const WriteStatus& intent, std::stop_token stop) {
    log().debug("{}: status {}", intent.id, dump_json(intent.patch));
    auto object = local_.patch(kube::resources::kPods, intent.id.ns, intent.id.name,
                               kube::PatchType::StrategicMerge, intent.patch, call(stop), "status");
    metrics_.status_write(object.has_value());
    if (!object && object.error().kind == ErrorKind::Conflict) {
        // Our version is old. The watch may take half a minute to come back after an outage; a status does
        // not wait.
        if (const auto pod = find_live(intent.id, stop); pod && *pod) dispatch(LocalApplied{*pod});
    }
    dispatch(StatusDone{intent.id, false, std::move(object)});
}

void PodExecutor::run(const DeleteLocal& intent, std::stop_token stop) {
    gone_(intent.id);
    const auto removed = local_.remove(kube::resources::kPods, intent.id.ns, intent.id.name,
                                       {.uid = intent.id.uid, .grace = std::chrono::seconds(0)}, call(stop));
    dispatch(
        StatusDone{intent.id, true, removed ? Result<Json>(Json()) : Result<Json>(fail(removed.error()))});
}

void PodExecutor::loop(std::stop_token stop) {
    while (!stop.stop_requested()) {
        dispatch(Tick{});
        *last_tick_.lock() = clock_.now();
        metrics_.show(controller_.lock()->counts());
        *woken_.lock() = false;  // before looking at the schedule: what comes later wakes us
        const auto due = controller_.lock()->next_wakeup();
        const SteadyTime until = std::min(due.value_or(SteadyTime::max()), clock_.now() + kLoopAtLeast);
        auto woken = woken_.lock();
        woken.wait_until(clock_, wake_, until, stop, [&] { return *woken; });
    }
}

void PodExecutor::poll_backend(std::stop_token stop) {
    while (!stop.stop_requested()) {
        const SteadyTime started = clock_.now();
        auto listed = measured("list", [&] { return provider_.list(call(stop)); });
        Duration pause = options_.backend_poll;
        if (listed) {
            dispatch(BackendListed{std::move(*listed), started});
        } else if (listed.error().kind != ErrorKind::Cancelled) {
            log().warn("listing pods at {}: {}", provider_.name(), listed.error().message);
            pause = kRelistAfterFailure;
        }
        if (!clock_.sleep_for(pause, stop)) return;
    }
}

void PodExecutor::on_listed(std::vector<kube::ObjectPtr> objects) {
    dispatch(LocalListed{std::move(objects)});
}
void PodExecutor::on_applied(kube::ObjectPtr object) {
    dispatch(LocalApplied{std::move(object)});
}
void PodExecutor::on_deleted(kube::ObjectPtr object) {
    gone_(kube::pod_id(*object));
    dispatch(LocalDeleted{std::move(object)});
}
void PodExecutor::on_error(const Error& error) {
    log().warn("watching pods: {}", error.message);
}
void PodExecutor::on_recovered() {
    log().info("watching pods again");
}

void PodExecutor::on_pod_changed(const providers::ObservedPod& pod) {
    dispatch(BackendChanged{pod});
}

void PodExecutor::on_pod_event(const PodId& pod, const std::string& type, const std::string& reason,
                               const std::string& message) {
    const auto local = find(pod.ns, pod.name);
    if (local == nullptr || kube::pod_id(*local) != pod) return;
    events_(*local, type, reason, message);
}

void PodExecutor::on_reachable_changed(bool reachable, const std::string& message) {
    reachable_(reachable, message);
}

}  // namespace k8sgpu::vnode
