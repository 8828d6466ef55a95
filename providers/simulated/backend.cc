#include "providers/simulated/backend.h"

#include <algorithm>
#include <functional>

#include <fmt/format.h>

#include "common/encoding.h"

namespace k8sgpu::providers::simulated {
namespace {

// The kubelet's back-off between restarts.
constexpr Duration kRestartFirst{10'000};
constexpr Duration kRestartLongest{300'000};
// How long the trace of a removed pod shows how it ended.
constexpr Duration kLinger{1'000};

constexpr int kKilledByTerm = 143;
constexpr int kKilledByKill = 137;

Duration restart_delay(int restarts) {
    Duration delay = kRestartFirst;
    for (int i = 0; i < restarts && delay < kRestartLongest; ++i) delay *= 2;
    return std::min(delay, kRestartLongest);
}

// Only what is reported or decides: a stored pod must not carry a user's environment.
Json reduced(const Json& pod) {
    Json spec = {{"restartPolicy", string_at(pod, {"spec", "restartPolicy"}, "Always")}};
    for (const char* list : {"initContainers", "containers"}) {
        Json kept = Json::array();
        for (const Json& container : array_at(pod, {"spec", list})) {
            kept.push_back(
                {{"name", string_at(container, {"name"})}, {"image", string_at(container, {"image"})}});
        }
        if (!kept.empty()) spec[list] = std::move(kept);
    }
    Json annotations = Json::object();
    for (const auto& [key, value] : object_at(pod, {"metadata", "annotations"}).items()) {
        if (key.starts_with(kAnnotationDomain)) annotations[key] = value;
    }
    return {{"metadata", {{"annotations", std::move(annotations)}}}, {"spec", std::move(spec)}};
}

// One address of 198.18.0.0/15 (RFC 2544, for tests) per UID.
std::string address_of(const std::string& uid) {
    const auto hash = static_cast<std::uint32_t>(std::hash<std::string>{}(uid));
    return fmt::format("198.{}.{}.{}", 18 + (hash >> 16U) % 2, (hash >> 8U) % 256, 1 + hash % 254);
}

Json terminated(int code, WallTime started, WallTime ended) {
    return {{"terminated",
             {{"exitCode", code},
              {"reason", code == 0 ? "Completed" : "Error"},
              {"startedAt", rfc3339_seconds(started)},
              {"finishedAt", rfc3339_seconds(ended)}}}};
}

}  // namespace

bool SimulatedBackend::create(const PodId& id, const Json& pod, const Script& script, std::string backend_id,
                              WallTime now) {
    return restore({id, reduced(pod), std::move(backend_id), now, std::nullopt, WallTime()}, script);
}

bool SimulatedBackend::restore(Facts facts, const Script& script) {
    const std::string uid = facts.id.uid;
    Pod made;
    made.since = facts.created;
    made.facts = std::move(facts);
    made.script = script;
    const auto [entry, inserted] = pods_.try_emplace(uid, std::move(made));
    if (inserted) show(entry->second);
    return inserted;
}

bool SimulatedBackend::remove(const std::string& uid, std::chrono::seconds grace, WallTime now) {
    const auto found = pods_.find(uid);
    if (found == pods_.end()) return false;
    Pod& pod = found->second;
    Facts& facts = pod.facts;
    const WallTime deadline = now + std::max(grace, std::chrono::seconds(0));
    if (facts.removed && facts.deadline <= deadline) return true;
    if (!facts.removed) facts.removed = std::max(now, facts.created);
    facts.deadline = std::max(deadline, *facts.removed);
    pod.changed = true;
    show(pod);
    return true;
}

bool SimulatedBackend::vanish(const std::string& uid) {
    const auto found = pods_.find(uid);
    if (found == pods_.end()) return false;
    gone_.push_back(found->second.seen);
    gone_.back().gone = true;
    gone_.back().may_be_running = false;
    pods_.erase(found);
    return true;
}

std::vector<ObservedPod> SimulatedBackend::step(WallTime now) {
    std::vector<ObservedPod> changes = std::move(gone_);
    gone_.clear();
    for (auto entry = pods_.begin(); entry != pods_.end();) {
        Pod& pod = entry->second;
        bool there = true;
        for (auto next = next_of(pod); there && next && *next <= now; next = next_of(pod)) {
            there = pass(pod, *next);
            pod.changed = true;
        }
        if (pod.changed) {
            show(pod);
            changes.push_back(pod.seen);
            pod.changed = false;
        }
        if (there) {
            ++entry;
            continue;
        }
        changes.back().gone = true;
        changes.back().may_be_running = false;
        entry = pods_.erase(entry);
    }
    return changes;
}

std::optional<WallTime> SimulatedBackend::next_change() const {
    std::optional<WallTime> soonest;
    if (!gone_.empty()) return WallTime::min();
    for (const auto& [uid, pod] : pods_) {
        if (pod.changed) return WallTime::min();
        const auto next = next_of(pod);
        if (next && (!soonest || *next < *soonest)) soonest = next;
    }
    return soonest;
}

std::optional<WallTime> SimulatedBackend::next_of(const Pod& pod) {
    const Facts& facts = pod.facts;
    if (pod.stage == Stage::Ended) {
        if (!facts.removed) return std::nullopt;
        return std::max(pod.since + kLinger, *facts.removed);
    }
    WallTime next = WallTime::max();
    switch (pod.stage) {
        case Stage::Starting:
            next = pod.since + pod.script.start_after;
            break;
        case Stage::BackingOff:
            next = pod.since + restart_delay(pod.restarts);
            break;
        default:
            if (!pod.ready) next = pod.since + pod.script.ready_after;
            if (pod.script.run_for) next = std::min(next, pod.since + *pod.script.run_for);
    }
    if (const auto stop = stop_at(pod)) next = std::min(next, *stop);
    if (next == WallTime::max()) return std::nullopt;
    return std::max(next, pod.since);
}

std::optional<WallTime> SimulatedBackend::stop_at(const Pod& pod) {
    if (!pod.facts.removed) return std::nullopt;
    if (pod.stage != Stage::Running) return pod.facts.removed;
    return std::min(*pod.facts.removed + pod.script.stop_after, pod.facts.deadline);
}

bool SimulatedBackend::pass(Pod& pod, WallTime at) {
    const Facts& facts = pod.facts;
    if (pod.stage == Stage::Ended) return false;
    const bool running = pod.stage == Stage::Running;
    const bool own_end = running && pod.script.run_for && at >= pod.since + *pod.script.run_for;
    const auto stop = stop_at(pod);
    if (own_end) {
        const int code = pod.script.exit_code;
        const bool again = code == 0 ? pod.script.restart_on_success : pod.script.restart_on_failure;
        end_run(pod, at, code);
        pod.stage = again && !(facts.removed && at >= *facts.removed) ? Stage::BackingOff : Stage::Ended;
    } else if (stop && at >= *stop) {
        const bool in_time = facts.removed && *facts.removed + pod.script.stop_after <= facts.deadline;
        if (running) end_run(pod, at, in_time ? kKilledByTerm : kKilledByKill);
        pod.stage = Stage::Ended;
    } else if (running) {
        pod.ready = true;
        return true;  // still the same run
    } else {
        if (pod.stage == Stage::BackingOff) ++pod.restarts;
        pod.stage = Stage::Running;
        pod.started = at;
        pod.ready = pod.script.ready_after == Duration::zero();
    }
    pod.since = at;
    return true;
}

void SimulatedBackend::end_run(Pod& pod, WallTime at, int code) {
    pod.ended = at;
    pod.exit_code = code;
    pod.has_ended = true;
    pod.ready = false;
}

void SimulatedBackend::show(Pod& pod) {
    const bool over = pod.stage == Stage::Ended;
    Json state;
    Json last = Json::object();
    if (pod.has_ended) last = terminated(pod.exit_code, pod.started, pod.ended);
    switch (pod.stage) {
        case Stage::Starting:
            state = {{"waiting", {{"reason", "ContainerCreating"}}}};
            break;
        case Stage::Running:
            state = {{"running", {{"startedAt", rfc3339_seconds(pod.started)}}}};
            break;
        case Stage::BackingOff:
            state = {{"waiting",
                      {{"reason", "CrashLoopBackOff"},
                       {"message", fmt::format("back-off {}s restarting failed container",
                                               restart_delay(pod.restarts).count() / 1000)}}}};
            break;
        case Stage::Ended:
            state = pod.has_ended ? std::exchange(last, Json::object())
                                  : terminated(kKilledByKill, pod.since, pod.since);
            break;
    }
    const bool running = pod.stage == Stage::Running;
    const bool begun = pod.started != WallTime();
    Json statuses = Json::array();
    for (const Json& container : array_at(pod.facts.pod, {"spec", "containers"})) {
        statuses.push_back({{"name", container.at("name")},
                            {"image", container.at("image")},
                            {"imageID", ""},
                            {"ready", running && pod.ready},
                            {"started", running},
                            {"restartCount", pod.restarts},
                            {"lastState", last},
                            {"state", state}});
    }
    const bool success = over && pod.has_ended && pod.exit_code == 0;
    const char* ended_as = success ? "Succeeded" : "Failed";
    Json status = {{"phase", over ? ended_as : (begun ? "Running" : "Pending")},
                   {"containerStatuses", std::move(statuses)}};
    if (begun) status["podIP"] = address_of(pod.facts.id.uid);
    Json init = Json::array();
    for (const Json& container : array_at(pod.facts.pod, {"spec", "initContainers"})) {
        const Json waiting = {{"waiting", {{"reason", "PodInitializing"}}}};
        init.push_back({{"name", container.at("name")},
                        {"image", container.at("image")},
                        {"imageID", ""},
                        {"ready", begun},
                        {"started", false},
                        {"restartCount", 0},
                        {"lastState", Json::object()},
                        {"state", begun ? terminated(0, pod.facts.created, pod.facts.created) : waiting}});
    }
    if (!init.empty()) status["initContainerStatuses"] = std::move(init);
    pod.seen = {pod.facts.id, std::move(status),   !over, pod.facts.removed.has_value(),
                false,        pod.facts.backend_id};
}

const ObservedPod* SimulatedBackend::find(const std::string& uid) const {
    const auto found = pods_.find(uid);
    return found == pods_.end() ? nullptr : &found->second.seen;
}

std::vector<ObservedPod> SimulatedBackend::list() const {
    std::vector<ObservedPod> all;
    all.reserve(pods_.size());
    for (const auto& [uid, pod] : pods_) all.push_back(pod.seen);
    return all;
}

std::vector<SimulatedBackend::Facts> SimulatedBackend::facts() const {
    std::vector<Facts> all;
    all.reserve(pods_.size());
    for (const auto& [uid, pod] : pods_) all.push_back(pod.facts);
    return all;
}

}  // namespace k8sgpu::providers::simulated
