#include "providers/kubernetes/stats_decode.h"

#include <algorithm>
#include <charconv>

#include "common/encoding.h"
#include "kube/quantity.h"

namespace k8sgpu::providers::kubernetes {

namespace {

using Nanos = std::chrono::nanoseconds;

// Between samples further apart than this nothing is known, and only the newer one's window counts.
constexpr Nanos kLongestGap = std::chrono::minutes(5);

std::optional<WallTime> time_of(const Json& json, std::initializer_list<std::string_view> path) {
    const std::string text = string_at(json, path);
    return text.empty() ? std::nullopt : parse_rfc3339(text);
}

std::optional<WallTime> running_since(const Json& pod, std::string_view container) {
    for (const char* list : {"initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses"}) {
        for (const Json& status : array_at(pod, {"status", list})) {
            if (string_at(status, {"name"}) == container)
                return time_of(status, {"state", "running", "startedAt"});
        }
    }
    return std::nullopt;
}

std::optional<kube::Quantity> quantity_at(const Json& json, std::initializer_list<std::string_view> path) {
    const auto parsed = kube::Quantity::parse(string_at(json, path));
    if (!parsed || parsed->is_negative()) return std::nullopt;
    return *parsed;
}

// kube::Quantity keeps billionths but tells whole and thousandth parts only; CPU comes as "12345678n".
std::optional<std::uint64_t> nano_cores_at(const Json& json, std::initializer_list<std::string_view> path) {
    const std::string text = string_at(json, path);
    std::uint64_t value = 0;
    const auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), value);
    const std::string_view unit = std::string_view(text).substr(static_cast<std::size_t>(end - text.data()));
    if (status == std::errc() && unit == "n") return value;
    if (status == std::errc() && unit == "u") return value * 1'000;
    const auto quantity = quantity_at(json, path);
    if (!quantity) return std::nullopt;
    return static_cast<std::uint64_t>(quantity->milli()) * 1'000'000;
}

std::optional<std::uint64_t> figure_at(const Json& json, std::string_view key) {
    const Json& value = at(json, {key});
    return value.is_number_unsigned() ? std::optional(value.get<std::uint64_t>()) : std::nullopt;
}

std::optional<CpuStats> cpu_of(const Json& json) {
    const auto time = time_of(json, {"cpu", "time"});
    if (!time) return std::nullopt;
    const Json& cpu = json["cpu"];
    return CpuStats{*time, figure_at(cpu, "usageCoreNanoSeconds"), figure_at(cpu, "usageNanoCores"), {}, {}};
}

std::optional<MemoryStats> memory_of(const Json& json) {
    const auto time = time_of(json, {"memory", "time"});
    if (!time) return std::nullopt;
    const Json& memory = json["memory"];
    MemoryStats out{};
    out.time = *time;
    out.usage_bytes = figure_at(memory, "usageBytes");
    out.working_set_bytes = figure_at(memory, "workingSetBytes");
    out.rss_bytes = figure_at(memory, "rssBytes");
    out.available_bytes = figure_at(memory, "availableBytes");
    out.page_faults = figure_at(memory, "pageFaults");
    out.major_page_faults = figure_at(memory, "majorPageFaults");
    out.swap_bytes = figure_at(at(json, {"swap"}), "swapUsageBytes");
    return out;
}

// Of a file system that others share only the own use means anything here.
std::optional<FileSystemStats> own_use_of(const Json& fs) {
    const auto time = time_of(fs, {"time"});
    if (!time) return std::nullopt;
    FileSystemStats out{};
    out.time = *time;
    out.used_bytes = figure_at(fs, "usedBytes");
    out.inodes_used = figure_at(fs, "inodesUsed");
    return out;
}

std::optional<NetworkStats> network_of(const Json& pod) {
    const Json& network = at(pod, {"network"});
    const auto time = time_of(network, {"time"});
    if (!time) return std::nullopt;
    NetworkStats out{*time, {}};
    for (const Json& one : array_at(network, {"interfaces"})) {
        InterfaceStats stats{};
        stats.name = string_at(one, {"name"});
        stats.rx_bytes = figure_at(one, "rxBytes");
        stats.rx_errors = figure_at(one, "rxErrors");
        stats.tx_bytes = figure_at(one, "txBytes");
        stats.tx_errors = figure_at(one, "txErrors");
        const bool is_default = stats.name == string_at(network, {"name"});
        out.interfaces.insert(is_default ? out.interfaces.begin() : out.interfaces.end(), std::move(stats));
    }
    return out;
}

}  // namespace

std::uint64_t RateIntegrator::take(const std::string& key, std::optional<WallTime> start, WallTime time,
                                   Nanos window, std::uint64_t nano_cores) {
    const auto used_in = [&](Nanos span) {
        return static_cast<std::uint64_t>(static_cast<double>(nano_cores) *
                                          static_cast<double>(span.count()) / 1e9);
    };
    auto [found, fresh] = counters_.try_emplace(key, Counter{start, time, 0});
    Counter& counter = found->second;
    if (fresh || counter.start != start) {
        counter = {start, time, used_in(window)};
        return counter.nanos;
    }
    const Nanos elapsed = time - counter.time;
    if (elapsed <= Nanos::zero()) return counter.nanos;
    counter.nanos += used_in(elapsed > kLongestGap ? window : elapsed);
    counter.time = time;
    return counter.nanos;
}

void RateIntegrator::forget_before(WallTime time) {
    std::erase_if(counters_, [&](const auto& entry) { return entry.second.time < time; });
}

Nanos parse_window(std::string_view text) {
    double seconds = 0;
    while (!text.empty()) {
        double number = 0;
        const auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), number);
        if (status != std::errc() || number < 0 || number > 86'400'000) return Nanos::zero();
        text.remove_prefix(static_cast<std::size_t>(end - text.data()));
        const std::pair<std::string_view, double> units[] = {
            {"ms", 1e-3}, {"us", 1e-6}, {"µs", 1e-6}, {"ns", 1e-9}, {"h", 3600}, {"m", 60}, {"s", 1}};
        const auto* unit = std::find_if(std::begin(units), std::end(units),
                                        [&](const auto& one) { return text.starts_with(one.first); });
        if (unit == std::end(units)) return Nanos::zero();
        seconds += number * unit->second;
        text.remove_prefix(unit->first.size());
    }
    return std::chrono::duration_cast<Nanos>(std::chrono::duration<double>(seconds));
}

std::optional<PodStats> from_pod_metrics(const Json& item, const RemotePod& pod, RateIntegrator& counters) {
    const auto time = time_of(item, {"timestamp"});
    if (!time) return std::nullopt;
    const Nanos window = parse_window(string_at(item, {"window"}));
    PodStats out;
    out.id = pod.id;
    for (const Json& one : array_at(item, {"containers"})) {
        ContainerStats container;
        container.name = string_at(one, {"name"});
        container.start_time = running_since(*pod.object, container.name);
        if (const auto rate = nano_cores_at(one, {"usage", "cpu"})) {
            const auto used =
                counters.take(pod.id.uid + "/" + container.name, container.start_time, *time, window, *rate);
            container.cpu = CpuStats{*time, used, *rate, {}, {}};
        }
        if (const auto bytes = quantity_at(one, {"usage", "memory"})) {
            container.memory = MemoryStats{};
            container.memory->time = *time;
            container.memory->working_set_bytes = static_cast<std::uint64_t>(bytes->units());
        }
        out.containers.push_back(std::move(container));
    }
    return out;
}

std::vector<PodStats> from_summary(const Json& summary,
                                   const std::map<std::string, RemotePod>& by_remote_uid) {
    std::vector<PodStats> out;
    for (const Json& one : array_at(summary, {"pods"})) {
        const auto pod = by_remote_uid.find(string_at(one, {"podRef", "uid"}));
        if (pod == by_remote_uid.end()) continue;
        PodStats stats;
        stats.id = pod->second.id;
        stats.cpu = cpu_of(one);
        stats.memory = memory_of(one);
        stats.network = network_of(one);
        stats.ephemeral_storage = own_use_of(at(one, {"ephemeral-storage"}));
        if (const auto count = figure_at(at(one, {"process_stats"}), "process_count"); count && stats.cpu)
            stats.process = ProcessStats{stats.cpu->time, count, {}, {}, {}};
        for (const Json& each : array_at(one, {"containers"})) {
            ContainerStats container;
            container.name = string_at(each, {"name"});
            container.start_time = time_of(each, {"startTime"});
            container.cpu = cpu_of(each);
            container.memory = memory_of(each);
            container.root_fs = own_use_of(at(each, {"rootfs"}));
            container.logs = own_use_of(at(each, {"logs"}));
            stats.containers.push_back(std::move(container));
        }
        out.push_back(std::move(stats));
    }
    return out;
}

}  // namespace k8sgpu::providers::kubernetes
