#include "vnode/pod_status.h"

#include <algorithm>
#include <array>

#include "common/encoding.h"
#include "common/log.h"

namespace k8sgpu::vnode {
namespace {

using providers::ObservedPod;

bool is_sidecar(const Json& container) {
    return string_at(container, {"restartPolicy"}) == "Always";
}

const Json* find_named(const Json& list, std::string_view key, const std::string& name) {
    for (const Json& entry : list) {
        if (string_at(entry, {key}) == name) return &entry;
    }
    return nullptr;
}

bool is_terminated(const Json& status) {
    return at(status, {"state", "terminated"}).is_object();
}
bool is_running(const Json& status) {
    return at(status, {"state", "running"}).is_object();
}

Json default_status(const Json& container, const std::string& reason, const std::string& message) {
    Json waiting = {{"reason", reason}};
    if (!message.empty()) waiting["message"] = message;
    return {{"name", string_at(container, {"name"})},
            {"image", string_at(container, {"image"})},
            {"imageID", ""},
            {"ready", false},
            {"started", false},
            {"restartCount", 0},
            {"lastState", Json::object()},
            {"state", {{"waiting", waiting}}}};
}

// Nothing of the pod runs any more, whatever the last phase said.
bool is_over(const ObservedPod& observed) {
    return observed.gone || (observed.removing && !observed.may_be_running);
}

// A container that ran and was not seen to end, in a pod that is surely over.
Json ended_unknown(Json status) {
    status["state"] = {{"terminated",
                        {{"exitCode", 137},
                         {"reason", "ContainerStatusUnknown"},
                         {"message", "The container could not be located when the pod was terminated"}}}};
    status["ready"] = false;
    status["started"] = false;
    return status;
}

// The statuses of one list of containers. Empty while the backend has not looked at the pod: a pod that waits
// for remote capacity must not look as if it were starting (OSMO arms a time limit on ContainerCreating).
Json container_statuses(const Json& local, std::string_view spec_list, std::string_view status_list,
                        const ObservedPod* observed, const PodVerdict& verdict) {
    const bool has_init = !array_at(local, {"spec", "initContainers"}).empty();
    static const Json nothing = Json::object();
    const Json& seen = array_at(observed != nullptr ? observed->status : nothing, {status_list});
    const Json& before = array_at(local, {"status", status_list});
    const bool over = verdict.lost.has_value() || (observed != nullptr && is_over(*observed));
    Json result = Json::array();
    for (const Json& container : array_at(local, {"spec", spec_list})) {
        const std::string name = string_at(container, {"name"});
        const Json* reported = find_named(seen, "name", name);
        const Json* published = find_named(before, "name", name);
        Json status;
        if (reported != nullptr) {
            status = *reported;
        } else if (verdict.blocked) {
            const auto& names = verdict.blocked->containers;
            const bool named = names.empty() || std::find(names.begin(), names.end(), name) != names.end();
            const std::string idle = has_init ? "PodInitializing" : "ContainerCreating";
            status = default_status(container, named ? verdict.blocked->waiting_reason : idle,
                                    named ? verdict.blocked->waiting_message : "");
        } else if (published != nullptr) {
            status = *published;
        } else if (!seen.empty()) {
            status = default_status(container, has_init ? "PodInitializing" : "ContainerCreating", "");
        } else {
            continue;
        }
        if (published != nullptr) {
            const auto floor = int_at(*published, {"restartCount"});
            if (int_at(status, {"restartCount"}) < floor) status["restartCount"] = floor;
        }
        const bool has_run = is_running(status) || int_at(status, {"restartCount"}) > 0;
        if (over && has_run && !is_terminated(status)) status = ended_unknown(std::move(status));
        result.push_back(std::move(status));
    }
    if (spec_list == "containers") {
        std::sort(result.begin(), result.end(), [](const Json& a, const Json& b) {
            return string_at(a, {"name"}) < string_at(b, {"name"});
        });
    }
    return result;
}

bool any_terminated_badly(const Json& statuses) {
    return std::any_of(statuses.begin(), statuses.end(), [](const Json& s) {
        return is_terminated(s) && int_at(s, {"state", "terminated", "exitCode"}) != 0;
    });
}

std::string phase_of(const Json& local, const ObservedPod* observed, const PodVerdict& verdict,
                     const Json& containers) {
    const std::string published = string_at(local, {"status", "phase"}, "Pending");
    if (is_terminal_phase(published)) return published;
    if (verdict.refused || verdict.lost) return "Failed";
    if (observed == nullptr) return published;
    const std::string reported = string_at(observed->status, {"phase"}, "Pending");
    if (is_terminal_phase(reported)) return reported;
    if (is_over(*observed)) {
        // Deleted before it ended: all exit codes zero would be a success, anything else is a failure.
        const bool all_ended = containers.size() == array_at(local, {"spec", "containers"}).size() &&
                               std::all_of(containers.begin(), containers.end(), is_terminated);
        return all_ended && !any_terminated_badly(containers) ? "Succeeded" : "Failed";
    }
    // A pod that was running stays so: "Unknown" and a backend that lost its memory are not news for
    // controllers.
    if (reported == "Running" || published == "Running") return "Running";
    return "Pending";
}

struct Condition {
    std::string type;
    std::string status;
    std::string reason;
    std::string message;
};

std::string joined(const std::vector<std::string>& names) {
    return fmt::format("[{}]", fmt::join(names, " "));
}

std::vector<std::string> names_where(const Json& specs, const Json& statuses,
                                     bool (*bad)(const Json& spec, const Json* status)) {
    std::vector<std::string> names;
    for (const Json& spec : specs) {
        const std::string name = string_at(spec, {"name"});
        if (bad(spec, find_named(statuses, "name", name))) names.push_back(name);
    }
    return names;
}

bool init_incomplete(const Json& spec, const Json* status) {
    if (status == nullptr) return true;
    if (is_sidecar(spec)) return !bool_at(*status, {"started"}) && !is_terminated(*status);
    return !is_terminated(*status) || int_at(*status, {"state", "terminated", "exitCode"}) != 0;
}
bool unready(const Json& spec, const Json* status) {
    (void)spec;
    return status == nullptr || !bool_at(*status, {"ready"});
}

Condition initialized(const Json& local, const std::string& phase, const Json& init, const Json& containers) {
    if (phase == "Succeeded") return {"Initialized", "True", "PodCompleted", ""};
    const Json& specs = array_at(local, {"spec", "initContainers"});
    const bool started = std::any_of(containers.begin(), containers.end(), [](const Json& s) {
        return is_running(s) || is_terminated(s) || int_at(s, {"restartCount"}) > 0;
    });
    const auto incomplete = names_where(specs, init, init_incomplete);
    if (incomplete.empty() || started) return {"Initialized", "True", "", ""};
    return {"Initialized", "False", "ContainersNotInitialized",
            "containers with incomplete status: " + joined(incomplete)};
}

Condition containers_ready(const Json& local, const std::string& phase, const Json& init,
                           const Json& containers) {
    if (phase == "Succeeded") return {"ContainersReady", "False", "PodCompleted", ""};
    if (phase == "Failed") return {"ContainersReady", "False", "PodFailed", ""};
    Json sidecars = Json::array();
    for (const Json& spec : array_at(local, {"spec", "initContainers"})) {
        if (is_sidecar(spec)) sidecars.push_back(spec);
    }
    auto names = names_where(sidecars, init, unready);
    const auto regular = names_where(array_at(local, {"spec", "containers"}), containers, unready);
    names.insert(names.end(), regular.begin(), regular.end());
    if (names.empty()) return {"ContainersReady", "True", "", ""};
    return {"ContainersReady", "False", "ContainersNotReady",
            "containers with unready status: " + joined(names)};
}

Condition ready(const Json& local, const Condition& containers) {
    if (containers.status != "True")
        return {"Ready", containers.status, containers.reason, containers.message};
    std::string problems;
    for (const Json& gate : array_at(local, {"spec", "readinessGates"})) {
        const std::string type = string_at(gate, {"conditionType"});
        const Json* found = find_named(array_at(local, {"status", "conditions"}), "type", type);
        if (!problems.empty() && (found == nullptr || string_at(*found, {"status"}) != "True"))
            problems += ", ";
        if (found == nullptr) {
            problems +=
                fmt::format("corresponding condition of pod readiness gate \"{}\" does not exist.", type);
        } else if (string_at(*found, {"status"}) != "True") {
            problems += fmt::format("the status of pod readiness gate \"{}\" is not \"True\", but {}", type,
                                    string_at(*found, {"status"}));
        }
    }
    if (problems.empty()) return {"Ready", "True", "", ""};
    return {"Ready", "False", "ReadinessGatesNotReady", problems};
}

// Keeps the transition time of an unchanged condition, as every reader of conditions expects.
Json stamped(const Condition& condition, const Json& local, const std::string& now, std::int64_t generation) {
    const Json* before = find_named(array_at(local, {"status", "conditions"}), "type", condition.type);
    const bool same = before != nullptr && string_at(*before, {"status"}) == condition.status;
    Json json = {{"type", condition.type},
                 {"status", condition.status},
                 {"lastProbeTime", nullptr},
                 {"lastTransitionTime", same ? string_at(*before, {"lastTransitionTime"}, now) : now}};
    if (!condition.reason.empty()) json["reason"] = condition.reason;
    if (!condition.message.empty()) json["message"] = condition.message;
    if (generation > 0) json["observedGeneration"] = generation;
    return json;
}

void add_addresses(Json& status, const Json& local, const ObservedPod* observed, const StatusFacts& facts) {
    if (!facts.host_ip.empty()) {
        status["hostIP"] = facts.host_ip;
        status["hostIPs"] = Json::array({{{"ip", facts.host_ip}}});
    }
    if (facts.pod_ip == PodIpPolicy::None || observed == nullptr) return;
    if (bool_at(local, {"spec", "hostNetwork"})) return;
    const std::string ip = string_at(observed->status, {"podIP"});
    if (ip.empty()) return;
    status["podIP"] = ip;
    const Json& all = array_at(observed->status, {"podIPs"});
    status["podIPs"] = all.empty() ? Json::array({{{"ip", ip}}}) : all;
}

}  // namespace

bool is_terminal_phase(const std::string& phase) {
    return phase == "Succeeded" || phase == "Failed";
}

Json compose_status(const Json& local, const ObservedPod* observed, const PodVerdict& verdict,
                    const StatusFacts& facts) {
    const std::string now = rfc3339_seconds(facts.now);
    const std::int64_t generation = int_at(local, {"metadata", "generation"});
    Json init = container_statuses(local, "initContainers", "initContainerStatuses", observed, verdict);
    Json containers = container_statuses(local, "containers", "containerStatuses", observed, verdict);
    Json ephemeral =
        container_statuses(local, "ephemeralContainers", "ephemeralContainerStatuses", observed, verdict);
    const std::string phase = phase_of(local, observed, verdict, containers);

    Json status = {{"phase", phase}, {"startTime", string_at(local, {"status", "startTime"}, now)}};
    if (generation > 0) status["observedGeneration"] = generation;
    add_addresses(status, local, observed, facts);

    if (verdict.refused) {
        status["reason"] = verdict.refused->reason;
        status["message"] = "Pod was rejected: " + verdict.refused->message;
    } else if (verdict.lost) {
        status["reason"] = verdict.lost->reason;
        status["message"] = verdict.lost->message;
    } else if (observed != nullptr) {
        for (const char* key : {"reason", "message"}) {
            const std::string text = string_at(observed->status, {key});
            if (!text.empty()) status[key] = text;
        }
    }
    if (!init.empty()) status["initContainerStatuses"] = init;
    if (!containers.empty()) status["containerStatuses"] = containers;
    if (!ephemeral.empty()) status["ephemeralContainerStatuses"] = ephemeral;

    static const Json unseen = Json::object();
    const Json& reported = array_at(observed != nullptr ? observed->status : unseen, {"conditions"});
    std::vector<Condition> conditions;
    conditions.push_back({std::string(kForwardedCondition), verdict.forwarded, verdict.forwarded_reason,
                          verdict.forwarded_message});
    if (verdict.lost) {
        conditions.push_back({"DisruptionTarget", "True", "TerminationByKubelet", verdict.lost->message});
    } else if (const Json* target = find_named(reported, "type", "DisruptionTarget")) {
        conditions.push_back({"DisruptionTarget", string_at(*target, {"status"}, "True"),
                              string_at(*target, {"reason"}, "TerminationByKubelet"),
                              string_at(*target, {"message"})});
    }
    const Json* sandbox = find_named(reported, "type", "PodReadyToStartContainers");
    const bool has_sandbox = sandbox != nullptr
                                 ? string_at(*sandbox, {"status"}) == "True"
                                 : std::any_of(containers.begin(), containers.end(), is_running);
    conditions.push_back(
        {"PodReadyToStartContainers", has_sandbox && !is_terminal_phase(phase) ? "True" : "False", "", ""});
    conditions.push_back(initialized(local, phase, init, containers));
    const Condition all_ready = containers_ready(local, phase, init, containers);
    conditions.push_back(ready(local, all_ready));
    conditions.push_back(all_ready);
    conditions.push_back({"PodScheduled", "True", "", ""});
    Json& list = status["conditions"] = Json::array();
    for (const Condition& condition : conditions) list.push_back(stamped(condition, local, now, generation));
    return status;
}

Json status_patch(const Json& current, const Json& wanted, const std::string& uid) {
    static constexpr std::array kOwned = {"phase",
                                          "reason",
                                          "message",
                                          "startTime",
                                          "observedGeneration",
                                          "hostIP",
                                          "hostIPs",
                                          "podIP",
                                          "podIPs",
                                          "initContainerStatuses",
                                          "containerStatuses",
                                          "ephemeralContainerStatuses"};
    static const Json absent;
    Json diff = Json::object();
    for (const char* key : kOwned) {
        const Json& is = at(current, {key});
        const Json& want = at(wanted, {key});
        if (is == want) continue;
        const bool merged_by_ip = std::string_view(key) == "hostIPs" || std::string_view(key) == "podIPs";
        if (want.is_array() && merged_by_ip && is.is_array()) {
            Json replacement = Json::array({{{"$patch", "replace"}}});
            for (const Json& entry : want) replacement.push_back(entry);
            diff[key] = replacement;
        } else {
            diff[key] = want;  // null removes
        }
    }
    Json conditions = Json::array();
    for (const Json& want : array_at(wanted, {"conditions"})) {
        const Json* is = find_named(array_at(current, {"conditions"}), "type", string_at(want, {"type"}));
        bool same = is != nullptr;
        for (const char* key : {"status", "reason", "message", "lastTransitionTime", "observedGeneration"}) {
            if (!same || at(*is, {key}) == at(want, {key})) continue;
            same = false;
        }
        if (same) continue;
        Json change = want;
        for (const char* key : {"reason", "message"}) {
            // A merge keeps what is not mentioned: an old reason has to be removed by name.
            if (is != nullptr && !want.contains(key) && is->contains(key)) change[key] = nullptr;
        }
        conditions.push_back(std::move(change));
    }
    if (!conditions.empty()) diff["conditions"] = conditions;
    if (diff.empty()) return absent;
    return {{"metadata", {{"uid", uid}}}, {"status", diff}};
}

bool patch_within(const Json& patch, const Json& sent) {
    const Json& before = object_at(sent, {"status"});
    for (const auto& [key, value] : object_at(patch, {"status"}).items()) {
        if (key != "conditions") {
            if (at(before, {key}) != value) return false;
            continue;
        }
        for (const Json& condition : value) {
            const Json* earlier =
                find_named(array_at(before, {"conditions"}), "type", string_at(condition, {"type"}));
            if (earlier == nullptr || *earlier != condition) return false;
        }
    }
    return true;
}

}  // namespace k8sgpu::vnode
