#include "providers/process/log_choice.h"

#include <fmt/format.h>

#include <algorithm>

namespace k8sgpu::providers::process {
namespace {

const Json& status_of(const PodTrace& trace, const std::string& container) {
    static const Json none;
    for (const char* list : {"initContainerStatuses", "containerStatuses"}) {
        for (const Json& status : array_at(trace.report.pod_status, {list})) {
            if (string_at(status, {"name"}) == container) return status;
        }
    }
    return none;
}

}  // namespace

Result<int> choose_run(const PodTrace& trace, const LogRequest& request) {
    const std::string& container = request.container;
    const std::string& pod = request.pod.name;
    const auto& all = trace.intent.containers;
    if (std::none_of(all.begin(), all.end(), [&](const auto& c) { return c.name == container; })) {
        return fail(ErrorKind::NotFound,
                    fmt::format("container \"{}\" not found in pod \"{}\"", container, pod));
    }
    const Json& status = status_of(trace, container);
    if (!status.is_object()) {
        return fail(ErrorKind::Invalid,
                    fmt::format("container \"{}\" in pod \"{}\" is not available", container, pod));
    }
    const int newest = static_cast<int>(int_at(status, {"restartCount"}));
    const bool has_last = at(status, {"lastState", "terminated", "containerID"}).is_string();
    const Json& waiting = at(status, {"state", "waiting"});
    if (request.previous) {
        if (!has_last) {
            return fail(
                ErrorKind::Invalid,
                fmt::format("previous terminated container \"{}\" in pod \"{}\" not found", container, pod));
        }
        // While it waits, the newest run is the one that has ended.
        return waiting.is_object() ? newest : newest - 1;
    }
    if (!waiting.is_object()) {
        const Json& terminated = at(status, {"state", "terminated"});
        if (!terminated.is_object() || terminated.contains("containerID") || has_last) return newest;
        return fail(ErrorKind::Invalid,
                    fmt::format("container \"{}\" in pod \"{}\" is terminated", container, pod));
    }
    if (has_last) return newest;
    return fail(ErrorKind::Invalid, fmt::format("container \"{}\" in pod \"{}\" is waiting to start: {}",
                                                container, pod, string_at(waiting, {"reason"})));
}

bool run_is_over(const PodTrace& trace, const std::string& container, int run) {
    if (trace.stage != Stage::Running) return true;
    const Json& status = status_of(trace, container);
    return int_at(status, {"restartCount"}) > run || !at(status, {"state", "running"}).is_object();
}

}  // namespace k8sgpu::providers::process
