#include "kubelet_api/stats_collector.h"

#include <algorithm>
#include <map>

#include "common/encoding.h"
#include "common/log.h"
#include "kubelet_api/own_process.h"
#include "kubelet_api/pod_containers.h"

namespace k8sgpu::kubelet_api {

namespace {

using providers::ContainerStats;
using providers::CpuStats;
using providers::MemoryStats;
using providers::PodStats;

std::optional<WallTime> time_at(const Json& json, std::initializer_list<std::string_view> path) {
    const std::string text = string_at(json, path);
    return text.empty() ? std::nullopt : parse_rfc3339(text);
}

// Those that run, in the order of the pod's spec.
std::vector<ContainerStats> running_containers(std::vector<ContainerStats> measured, const Json& pod) {
    std::vector<ContainerStats> kept;
    for (const char* list : {"initContainers", "containers", "ephemeralContainers"}) {
        for (const Json& container : array_at(pod, {"spec", list})) {
            const std::string name = string_at(container, {"name"});
            const auto found = std::find_if(measured.begin(), measured.end(),
                                            [&](const ContainerStats& one) { return one.name == name; });
            if (found == measured.end() || !is_running(pod, name)) continue;
            if (!found->start_time)
                found->start_time = time_at(container_status(pod, name), {"state", "running", "startedAt"});
            kept.push_back(std::move(*found));
            measured.erase(found);
        }
    }
    return kept;
}

// The sum of one figure over all containers; absent when one of them lacks it, for half a sum is wrong.
template <typename Group, typename Figure>
std::optional<std::uint64_t> sum_of(const std::vector<ContainerStats>& containers,
                                    std::optional<Group> ContainerStats::*group, Figure figure) {
    std::uint64_t sum = 0;
    for (const ContainerStats& one : containers) {
        if (!(one.*group) || !(*(one.*group).*figure)) return std::nullopt;
        sum += *(*(one.*group).*figure);
    }
    return containers.empty() ? std::nullopt : std::optional<std::uint64_t>(sum);
}

template <typename Group>
std::optional<WallTime> newest(const std::vector<ContainerStats>& containers,
                               std::optional<Group> ContainerStats::*group) {
    std::optional<WallTime> time;
    for (const ContainerStats& one : containers) {
        if (one.*group && (!time || (one.*group)->time > *time)) time = (one.*group)->time;
    }
    return time;
}

void add_up_memory(PodStats& pod) {
    const auto time = newest(pod.containers, &ContainerStats::memory);
    if (pod.memory || !time) return;
    const auto sum = [&](auto figure) { return sum_of(pod.containers, &ContainerStats::memory, figure); };
    pod.memory = MemoryStats{*time,
                             sum(&MemoryStats::usage_bytes),
                             sum(&MemoryStats::working_set_bytes),
                             sum(&MemoryStats::rss_bytes),
                             sum(&MemoryStats::cache_bytes),
                             sum(&MemoryStats::mapped_file_bytes),
                             sum(&MemoryStats::swap_bytes),
                             std::nullopt,
                             sum(&MemoryStats::page_faults),
                             sum(&MemoryStats::major_page_faults)};
}

void add_up_cpu(PodStats& pod, std::optional<std::uint64_t> used) {
    const auto time = newest(pod.containers, &ContainerStats::cpu);
    if (pod.cpu || !time) return;
    pod.cpu = CpuStats{*time, used, sum_of(pod.containers, &ContainerStats::cpu, &CpuStats::usage_nano_cores),
                       std::nullopt, std::nullopt};
}

void add_up_processes(PodStats& pod) {
    using providers::ProcessStats;
    const auto time = newest(pod.containers, &ContainerStats::process);
    if (pod.process || !time) return;
    const auto sum = [&](auto figure) { return sum_of(pod.containers, &ContainerStats::process, figure); };
    pod.process = ProcessStats{*time, sum(&ProcessStats::processes), sum(&ProcessStats::threads),
                               sum(&ProcessStats::file_descriptors), sum(&ProcessStats::sockets)};
}

ContainerStats agent_stats(WallTime now) {
    const OwnProcess own = read_own_process();
    ContainerStats agent;
    agent.name = "kubelet";
    agent.start_time = own.start_time;
    agent.cpu = CpuStats{now, own.user_nano_seconds + own.system_nano_seconds, std::nullopt,
                         own.user_nano_seconds, own.system_nano_seconds};
    agent.memory = MemoryStats{};
    agent.memory->time = now;
    agent.memory->usage_bytes = own.resident_bytes;
    agent.memory->working_set_bytes = own.resident_bytes;
    agent.memory->rss_bytes = own.anonymous_bytes;
    agent.process = providers::ProcessStats{now, 1, own.threads, own.open_files, std::nullopt};
    return agent;
}

bool nothing_there(const Error& error) {
    return error.kind == ErrorKind::Unsupported || error.kind == ErrorKind::Forbidden;
}

}  // namespace

CollectedStats StatsCollector::collect(const CallContext& ctx) {
    CollectedStats all;
    const CallContext limited = ctx.with_timeout(patience_);
    std::map<std::string, PodStats> measured;
    bool some_source = false;
    for (providers::Provider* provider : pods_.providers()) {
        providers::StatsSource* source = provider->stats();
        if (source == nullptr) continue;
        auto report = source->stats(limited);
        if (!report) {
            if (nothing_there(report.error())) continue;
            log().warn("measuring the pods of provider {}: {}", provider->name(), report.error().message);
            all.failure = report.error();
            continue;
        }
        some_source = true;
        if (report->node) all.node = std::move(*report->node);
        for (PodStats& pod : report->pods) {
            const std::string uid = pod.id.uid;
            measured.insert_or_assign(uid, std::move(pod));
        }
    }
    all.time = clock_.wall_now();
    all.agent = agent_stats(all.time);
    const std::vector<PodView> known = pods_.list();
    for (const PodView& view : known) {
        const auto found = measured.find(view.id.uid);
        if (found == measured.end()) continue;
        PodStats& pod = found->second;
        pod.id = view.id;
        pod.containers = running_containers(std::move(pod.containers), *view.pod);
        if (pod.containers.empty()) continue;
        if (!pod.start_time) pod.start_time = time_at(*view.pod, {"status", "startTime"});
        all.pods.push_back({std::move(pod), view.pod});
    }
    std::sort(all.pods.begin(), all.pods.end(),
              [](const MeasuredPod& a, const MeasuredPod& b) { return a.stats.id < b.stats.id; });
    complete(all, known, some_source && !all.failure);
    return all;
}

void StatsCollector::complete(CollectedStats& all, const std::vector<PodView>& known, bool measured) {
    auto memory = memory_.lock();
    const auto fill_rate = [&](const std::string& key, std::optional<CpuStats>& cpu) {
        if (!cpu || cpu->usage_nano_cores || !cpu->usage_core_nano_seconds) return;
        cpu->usage_nano_cores = memory->rates.take(key, cpu->time, *cpu->usage_core_nano_seconds);
    };
    std::set<std::string> uids;
    for (const PodView& view : known) uids.insert(view.id.uid);
    memory->ledger.keep_only(uids);
    for (MeasuredPod& one : all.pods) {
        PodStats& pod = one.stats;
        bool every_counter = true;
        for (ContainerStats& container : pod.containers) {
            fill_rate(pod.id.uid + "/" + container.name, container.cpu);
            const bool counter = container.cpu && container.cpu->usage_core_nano_seconds;
            every_counter = every_counter && counter;
            if (counter)
                memory->ledger.take(pod.id.uid, container.name, container.start_time,
                                    *container.cpu->usage_core_nano_seconds);
        }
        add_up_cpu(pod, every_counter ? memory->ledger.pod_total(pod.id.uid) : std::nullopt);
        add_up_memory(pod);
        add_up_processes(pod);
        fill_rate(pod.id.uid, pod.cpu);
    }
    fill_rate("agent", all.agent.cpu);
    if (!all.node.start_time) all.node.start_time = all.agent.start_time;
    if (measured && !all.node.cpu) {
        all.node.cpu = CpuStats{all.time, memory->ledger.total() + *all.agent.cpu->usage_core_nano_seconds,
                                std::nullopt, std::nullopt, std::nullopt};
    }
    if (measured && !all.node.memory) {
        MemoryStats sum{};
        sum.time = all.time;
        std::uint64_t working_set = all.agent.memory->working_set_bytes.value_or(0);
        for (const MeasuredPod& one : all.pods) {
            if (one.stats.memory) working_set += one.stats.memory->working_set_bytes.value_or(0);
        }
        sum.working_set_bytes = working_set;
        all.node.memory = sum;
    }
    fill_rate("node", all.node.cpu);
    memory->rates.forget_before(all.time);
}

}  // namespace k8sgpu::kubelet_api
