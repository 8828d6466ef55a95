#include "providers/simulated/simulated_provider.h"

#include <fmt/format.h>

#include <algorithm>

#include "common/encoding.h"
#include "common/file.h"
#include "kube/object.h"

namespace k8sgpu::providers::simulated {
namespace {

constexpr Duration kFollowEvery{500};
// Far times are looked at again after this: no arithmetic on the end of time.
constexpr Duration kLookAtLeast{3'600'000};

}  // namespace

SimulatedProvider::SimulatedProvider(SimulatedProviderOptions options, Clock& clock)
    : options_(std::move(options)),
      clock_(clock),
      began_(clock.now()),
      began_wall_(clock.wall_now()),
      journal_(options_.state_directory + "/simulated-pods.json") {}

Result<void> SimulatedProvider::start(ProviderObserver& observer) {
    if (auto made = ensure_directory(options_.state_directory); !made)
        return fail(made.error().with_context("--state-dir"));
    auto pods = journal_.load();
    if (!pods) return fail(pods.error().with_context("simulated pods"));
    {
        auto state = state_.lock();
        for (auto& facts : *pods) {
            auto script = read_script(facts.pod);
            if (!script) return fail(script.error().with_context("simulated pods: " + facts.id.full_name()));
            state->backend.restore(std::move(facts), *script);
        }
        state->untold = state->backend.step(now());
    }
    observer.on_reachable_changed(true, "");
    thread_ = Thread("prov-simulated", [this, &observer](std::stop_token stop) { run(observer, stop); });
    return {};
}

void SimulatedProvider::run(ProviderObserver& observer, std::stop_token stop) {
    bool unsaved = false;
    while (!stop.stop_requested()) {
        std::vector<ObservedPod> changes;
        {
            auto state = state_.lock();
            state->woken = false;
            changes = std::exchange(state->untold, {});
            auto more = state->backend.step(now());
            std::move(more.begin(), more.end(), std::back_inserter(changes));
            // Losing this is harmless: a trace that has run out runs out again after a restart.
            unsaved = unsaved || std::any_of(changes.begin(), changes.end(), [](auto& p) { return p.gone; });
            if (unsaved && journal_.store(state->backend.facts())) unsaved = false;
        }
        for (const ObservedPod& pod : changes) observer.on_pod_changed(pod);
        auto state = state_.lock();
        SteadyTime until = clock_.now() + kLookAtLeast;
        if (const auto next = state->backend.next_change()) until = std::min(until, steady(*next));
        state.wait_until(clock_, changed_, until, stop, [&] { return state->woken; });
    }
}

WallTime SimulatedProvider::now() const {
    return began_wall_ + (clock_.now() - began_);
}

SteadyTime SimulatedProvider::steady(WallTime time) const {
    if (time <= began_wall_) return began_;
    if (time - began_wall_ > std::chrono::hours(24 * 365)) return began_ + std::chrono::hours(24 * 365);
    return began_ + (time - began_wall_) + Duration(1);
}

void SimulatedProvider::wake(State& state) {
    state.woken = true;
    changed_.notify_all();
}

std::optional<Refused> SimulatedProvider::check(const DesiredPod& pod) const {
    const auto script = read_script(pod.pod);
    if (script) return std::nullopt;
    return Refused{"UnexpectedAdmissionError", script.error().message};
}

Result<EnsureOutcome> SimulatedProvider::ensure(const DesiredPod& pod, const CallContext&) {
    const auto script = read_script(pod.pod);
    if (!script) return EnsureOutcome(Refused{"UnexpectedAdmissionError", script.error().message});
    auto state = state_.lock();
    if (state->backend.find(pod.id.uid) != nullptr) return EnsureOutcome(Accepted{});
    SimulatedBackend planned = state->backend;
    planned.create(pod.id, pod.pod, *script, fmt::format("sim-{}", state->next_id), now());
    // Durable first: a pod of which no file knows would start again after a crash.
    if (auto stored = journal_.store(planned.facts()); !stored)
        return fail(stored.error().with_context("storing the simulated pod"));
    ++state->next_id;
    state->backend = std::move(planned);
    wake(*state);
    return EnsureOutcome(Accepted{});
}

Result<void> SimulatedProvider::update(const DesiredPod&, const CallContext&) {
    return {};  // nothing that can change in a running pod matters to the script
}

Result<void> SimulatedProvider::remove(const PodId& pod, std::chrono::seconds grace, const CallContext&) {
    auto state = state_.lock();
    if (state->backend.find(pod.uid) == nullptr) {
        state->untold.push_back(absent(pod));
    } else {
        SimulatedBackend planned = state->backend;
        planned.remove(pod.uid, grace, now());
        if (auto stored = journal_.store(planned.facts()); !stored)
            return fail(stored.error().with_context("storing the end of the simulated pod"));
        state->backend = std::move(planned);
    }
    wake(*state);
    return {};
}

ObservedPod SimulatedProvider::absent(const PodId& pod) const {
    return {pod, Json::object(), false, false, true, ""};
}

Result<ObservedPod> SimulatedProvider::observe(const PodId& pod, const CallContext&) {
    auto state = state_.lock();
    const ObservedPod* found = state->backend.find(pod.uid);
    return found == nullptr ? absent(pod) : *found;
}

Result<std::vector<ObservedPod>> SimulatedProvider::list(const CallContext&) {
    return state_.lock()->backend.list();
}

Result<std::map<std::string, std::string>> SimulatedProvider::capacity(const CallContext&) {
    return options_.capacity;
}

Result<void> SimulatedProvider::logs(const LogRequest& request, LogSink& sink, const CallContext& ctx) {
    const auto seen = observe(request.pod, ctx);
    if (seen->gone) return fail(ErrorKind::NotFound, "the simulated pod is gone");
    std::string line;
    for (const Json& status : array_at(seen->status, {"containerStatuses"})) {
        if (string_at(status, {"name"}) != request.container) continue;
        const std::string_view run = request.previous ? "lastState" : "state";
        std::string began = string_at(status, {run, "running", "startedAt"});
        if (began.empty()) began = string_at(status, {run, "terminated", "startedAt"});
        if (began.empty() && !request.previous)
            began = string_at(status, {"lastState", "terminated", "startedAt"});
        if (began.empty()) continue;
        line = fmt::format("simulated container {} of pod {} started, restarts: {}\n", request.container,
                           request.pod.full_name(), int_at(status, {"restartCount"}));
        if (request.timestamps) line = began + " " + line;
    }
    if (line.empty() && request.previous) {
        return fail(ErrorKind::Invalid,
                    fmt::format("previous terminated container \"{}\" in pod \"{}\" not found",
                                request.container, request.pod.name));
    }
    if (request.tail_lines == 0) line.clear();
    if (request.limit_bytes)
        line.resize(std::min(line.size(), static_cast<std::size_t>(*request.limit_bytes)));
    if (auto begun = sink.begin(); !begun) return begun;
    if (!line.empty()) {
        if (auto written = sink.write(line); !written) return written;
    }
    while (request.follow && !request.previous) {
        const auto later = observe(request.pod, ctx);
        if (later->gone || !later->may_be_running) break;
        if (auto go_on = ctx.check(); !go_on) return go_on;
        ctx.clock().sleep_for(kFollowEvery, ctx.stop());
    }
    return {};
}

}  // namespace k8sgpu::providers::simulated
