#include "providers/process/pod_events.h"

#include <fmt/format.h>

namespace k8sgpu::providers::process {
namespace {

const Json& find_status(const Json& pod_status, const char* list, const std::string& name) {
    static const Json none;
    for (const Json& status : array_at(pod_status, {list})) {
        if (string_at(status, {"name"}) == name) return status;
    }
    return none;
}

const Json& failed_start(const Json& status) {
    for (const char* where : {"state", "lastState"}) {
        const Json& end = at(status, {where, "terminated"});
        if (string_at(end, {"reason"}) == "StartError") return end;
    }
    return at(status, {"none"});
}

}  // namespace

std::vector<PodEvent> events_between(const PodId& pod, const Json& before, const Json& after,
                                     bool was_stopping, bool stops) {
    std::vector<PodEvent> events;
    for (const char* list : {"initContainerStatuses", "containerStatuses"}) {
        for (const Json& now : array_at(after, {list})) {
            const std::string name = string_at(now, {"name"});
            const Json& then = find_status(before, list, name);
            const bool new_run = at(now, {"containerID"}) != at(then, {"containerID"});
            const Json& failure = failed_start(now);
            if (new_run && failure.is_object() && failure != failed_start(then)) {
                events.push_back({"Warning", "Failed", "Error: " + string_at(failure, {"message"})});
            } else if (new_run) {
                events.push_back({"Normal", "Created", "Created container: " + name});
                events.push_back({"Normal", "Started", "Started container " + name});
            }
            const bool backs_off = string_at(now, {"state", "waiting", "reason"}) == "CrashLoopBackOff";
            if (backs_off && at(now, {"lastState"}) != at(then, {"lastState"})) {
                events.push_back({"Warning", "BackOff",
                                  fmt::format("Back-off restarting failed container {} in pod {}_{}({})",
                                              name, pod.name, pod.ns, pod.uid)});
            }
            if (stops && !was_stopping && at(then, {"state", "running"}).is_object()) {
                events.push_back({"Normal", "Killing", "Stopping container " + name});
            }
        }
    }
    if (const std::string reason = string_at(after, {"reason"});
        !reason.empty() && reason != string_at(before, {"reason"})) {
        events.push_back(
            {reason == "DeadlineExceeded" ? "Normal" : "Warning", reason, string_at(after, {"message"})});
    }
    return events;
}

}  // namespace k8sgpu::providers::process
