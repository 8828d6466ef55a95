// What a shim tells the agent (status.json): the pod's status as Kubernetes words it, and what the agent must
// know to adopt the pod or to clean up after a dead shim. Pure; any thread.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "providers/process/machine.h"
#include "providers/process/pod_events.h"

namespace k8sgpu::providers::process {

// A process that surely is the one meant: numbers are reused, start times of one boot are not.
struct ProcessMark {
    std::string container;
    pid_t pid = 0;
    std::uint64_t start_time = 0;  // clock ticks since boot (proc(5), field 22)
    int run = 0;
    // CPU of processes that the shim had waited for before this run, in nanoseconds; absent from older shims.
    std::optional<std::uint64_t> reaped_before;
};

// What happened to a container beyond what its status tells. Numbers grow by one.
struct ShimEvent {
    std::int64_t number = 0;
    PodEvent event;
};

struct Report {
    Json pod_status = Json::object();  // v1.PodStatus: phase, times, container statuses
    bool ended = false;                // the last word: no container runs, the shim will not write again
    bool removing = false;
    WallTime written{};
    std::vector<ProcessMark> processes;  // main processes of running containers
    std::vector<ShimEvent> events;       // the latest
};

Json to_json(const Report& report);
Result<Report> read_report(const std::string& path);

// v1.PodStatus of a pod in this state.
Json render_status(const Machine& machine);

// The status of a pod whose shim is gone: nothing of it runs any more, and nobody saw how it ended
// (kubelet-contract §5.5: ContainerStatusUnknown, 137). `last` is the last status that was written, or null.
Json lost_status(const Json& last, const PodIntent& intent, const std::string& reason,
                 const std::string& message, WallTime now);

// "<runtime>://<id>" of one run; distinct for every run of every pod.
std::string container_id(const PodId& pod, const std::string& container, int run);

// As Go writes durations, because the kubelet's texts carry them: "10s", "1m20s", "5m0s", "250ms".
std::string go_duration(Duration duration);

}  // namespace k8sgpu::providers::process
