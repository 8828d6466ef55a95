#include "kubelet_api/summary.h"

#include "common/encoding.h"

namespace k8sgpu::kubelet_api {

namespace {

using Figure = std::optional<std::uint64_t>;

Json time_or_null(const std::optional<WallTime>& time) {
    return time ? Json(rfc3339_seconds(*time)) : Json();
}

void put(Json& into, const char* key, const Figure& figure) {
    if (figure) into[key] = *figure;
}

Json cpu_json(const providers::CpuStats& cpu) {
    Json out = {{"time", rfc3339_seconds(cpu.time)}};
    put(out, "usageNanoCores", cpu.usage_nano_cores);
    put(out, "usageCoreNanoSeconds", cpu.usage_core_nano_seconds);
    return out;
}

Json memory_json(const providers::MemoryStats& memory) {
    Json out = {{"time", rfc3339_seconds(memory.time)}};
    put(out, "availableBytes", memory.available_bytes);
    put(out, "usageBytes", memory.usage_bytes);
    put(out, "workingSetBytes", memory.working_set_bytes);
    put(out, "rssBytes", memory.rss_bytes);
    put(out, "pageFaults", memory.page_faults);
    put(out, "majorPageFaults", memory.major_page_faults);
    return out;
}

Json interface_json(const providers::InterfaceStats& one) {
    Json out = {{"name", one.name}};
    put(out, "rxBytes", one.rx_bytes);
    put(out, "rxErrors", one.rx_errors);
    put(out, "txBytes", one.tx_bytes);
    put(out, "txErrors", one.tx_errors);
    return out;
}

Json network_json(const providers::NetworkStats& network) {
    Json out = network.interfaces.empty() ? Json::object() : interface_json(network.interfaces.front());
    out["time"] = rfc3339_seconds(network.time);
    out["interfaces"] = Json::array();
    for (const auto& one : network.interfaces) out["interfaces"].push_back(interface_json(one));
    return out;
}

Json file_system_json(const providers::FileSystemStats& fs) {
    Json out = {{"time", rfc3339_seconds(fs.time)}};
    put(out, "availableBytes", fs.available_bytes);
    put(out, "capacityBytes", fs.capacity_bytes);
    put(out, "usedBytes", fs.used_bytes);
    put(out, "inodesFree", fs.inodes_free);
    put(out, "inodes", fs.inodes);
    put(out, "inodesUsed", fs.inodes_used);
    return out;
}

template <typename Stats>
void put_cpu_and_memory(Json& into, const Stats& stats) {
    if (stats.cpu) into["cpu"] = cpu_json(*stats.cpu);
    if (!stats.memory) return;
    into["memory"] = memory_json(*stats.memory);
    if (stats.memory->swap_bytes)
        into["swap"] = {{"time", rfc3339_seconds(stats.memory->time)},
                        {"swapUsageBytes", *stats.memory->swap_bytes}};
}

Json container_json(const providers::ContainerStats& container, bool brief) {
    Json out = {{"name", container.name}, {"startTime", time_or_null(container.start_time)}};
    put_cpu_and_memory(out, container);
    if (brief) return out;
    if (container.root_fs) out["rootfs"] = file_system_json(*container.root_fs);
    if (container.logs) out["logs"] = file_system_json(*container.logs);
    return out;
}

Json pod_json(const providers::PodStats& pod, bool brief) {
    Json out = {{"podRef", {{"name", pod.id.name}, {"namespace", pod.id.ns}, {"uid", pod.id.uid}}},
                {"startTime", time_or_null(pod.start_time)},
                {"containers", Json::array()}};
    for (const auto& container : pod.containers)
        out["containers"].push_back(container_json(container, brief));
    put_cpu_and_memory(out, pod);
    if (brief) return out;
    if (pod.network) out["network"] = network_json(*pod.network);
    if (pod.ephemeral_storage) out["ephemeral-storage"] = file_system_json(*pod.ephemeral_storage);
    if (pod.process && pod.process->processes)
        out["process_stats"] = {{"process_count", *pod.process->processes}};
    for (const auto& [name, volume] : pod.volumes) {
        Json json = file_system_json(volume);
        json["name"] = name;
        out["volume"].push_back(std::move(json));
    }
    return out;
}

}  // namespace

Json summary_json(const CollectedStats& stats, const std::string& node_name, bool only_cpu_and_memory) {
    Json node = {{"nodeName", node_name},
                 {"startTime", time_or_null(stats.node.start_time)},
                 {"systemContainers", {container_json(stats.agent, true)}}};
    put_cpu_and_memory(node, stats.node);
    if (!only_cpu_and_memory) {
        if (stats.node.network) node["network"] = network_json(*stats.node.network);
        if (stats.node.fs) node["fs"] = file_system_json(*stats.node.fs);
        if (stats.node.max_processes || stats.node.processes) {
            Json& rlimit = node["rlimit"] = {{"time", rfc3339_seconds(stats.time)}};
            put(rlimit, "maxpid", stats.node.max_processes);
            put(rlimit, "curproc", stats.node.processes);
        }
    }
    Json pods = Json::array();
    for (const MeasuredPod& pod : stats.pods) pods.push_back(pod_json(pod.stats, only_cpu_and_memory));
    return {{"node", std::move(node)}, {"pods", std::move(pods)}};
}

}  // namespace k8sgpu::kubelet_api
