#include "providers/process/usage.h"

#include <dirent.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <sstream>

#include "common/encoding.h"
#include "common/file.h"
#include "providers/process/prepare.h"

namespace k8sgpu::providers::process {
namespace {

constexpr std::size_t kMaxProcFile = 4U << 20U;

struct Pages {
    std::uint64_t resident = 0, shared = 0;
};
Pages pages_of(pid_t pid) {
    const auto text = read_file(fmt::format("/proc/{}/statm", pid), 4096);
    std::istringstream fields(text ? *text : "");
    std::uint64_t size = 0;
    Pages pages;
    if (!(fields >> size >> pages.resident >> pages.shared)) return {};
    return pages;
}

// Pages that processes share (one program's code, memory of forks) are counted once, as the most that any of
// them maps: the sum would count them again and again.
MemoryStats memory_of(const std::set<pid_t>& processes, WallTime now) {
    static const auto page = static_cast<std::uint64_t>(std::max(1L, ::sysconf(_SC_PAGESIZE)));
    std::uint64_t own = 0, shared = 0;
    for (const pid_t pid : processes) {
        const Pages pages = pages_of(pid);
        own += pages.resident - std::min(pages.resident, pages.shared);
        shared = std::max(shared, pages.shared);
    }
    MemoryStats memory;
    memory.time = now;
    memory.rss_bytes = own * page;
    memory.working_set_bytes = (own + shared) * page;
    return memory;
}

std::uint64_t descriptors_of(pid_t pid) {
    const std::unique_ptr<DIR, int (*)(DIR*)> fds(::opendir(fmt::format("/proc/{}/fd", pid).c_str()),
                                                  &::closedir);
    std::uint64_t count = 0;
    while (const dirent* entry = fds ? ::readdir(fds.get()) : nullptr)
        count += entry->d_name[0] != '.' ? 1 : 0;
    return count;
}

ProcessStats counts_of(const ProcessTable& table, const std::set<pid_t>& processes, WallTime now) {
    ProcessStats stats;
    stats.time = now;
    stats.processes = processes.size();
    stats.threads = stats.file_descriptors = 0;
    for (const pid_t pid : processes) {
        *stats.threads += table.at(pid).threads;
        *stats.file_descriptors += descriptors_of(pid);
    }
    return stats;
}

std::uint64_t cpu_of(const ProcessTable& table, const std::set<pid_t>& processes) {
    std::uint64_t ticks = 0;
    for (const pid_t pid : processes) ticks += table.at(pid).cpu_ticks + table.at(pid).child_cpu_ticks;
    return cpu_nanoseconds(ticks);
}

CpuStats cpu(std::uint64_t used, WallTime now) {
    CpuStats stats;
    stats.time = now;
    stats.usage_core_nano_seconds = used;
    return stats;
}

FileSystemStats logs_of(const std::string& directory, WallTime now) {
    FileSystemStats stats;
    stats.time = now;
    stats.used_bytes = stats.inodes_used = 0;
    std::error_code error;
    for (std::filesystem::directory_iterator it(directory, error), end; !error && it != end;
         it.increment(error)) {
        struct stat info {};
        if (::lstat(it->path().c_str(), &info) != 0) continue;
        *stats.used_bytes += static_cast<std::uint64_t>(info.st_blocks) * 512U;
        ++*stats.inodes_used;
    }
    return stats;
}

std::optional<WallTime> started_at(const PodTrace& trace, const std::string& container) {
    for (const char* list : {"initContainerStatuses", "containerStatuses"}) {
        for (const Json& status : array_at(trace.report.pod_status, {list})) {
            if (string_at(status, {"name"}) != container) continue;
            return parse_rfc3339(string_at(status, {"state", "running", "startedAt"}));
        }
    }
    return std::nullopt;
}

std::optional<FileSystemStats> file_system(const std::string& path, WallTime now) {
    struct statvfs disk {};
    if (::statvfs(path.c_str(), &disk) != 0) return std::nullopt;
    FileSystemStats stats;
    stats.time = now;
    stats.capacity_bytes = disk.f_blocks * disk.f_frsize;
    stats.available_bytes = disk.f_bavail * disk.f_frsize;
    stats.used_bytes = (disk.f_blocks - disk.f_bfree) * disk.f_frsize;
    stats.inodes = disk.f_files;
    stats.inodes_free = disk.f_ffree;
    stats.inodes_used = disk.f_files - disk.f_ffree;
    return stats;
}

std::string proc_file(const std::string& path) {
    auto text = read_file(path, kMaxProcFile);
    return text ? std::move(*text) : "";
}

NodeStats read_node(const std::string& state_directory, const ProcessTable& table, Clock& clock) {
    NodeStats node;
    const std::string stat = proc_file("/proc/stat");
    node.cpu = parse_node_cpu(stat, clock.wall_now());
    node.start_time = parse_boot_time(stat);
    node.memory = parse_node_memory(proc_file("/proc/meminfo"), clock.wall_now());
    node.fs = file_system(state_directory, clock.wall_now());
    node.processes = table.size();
    std::uint64_t limit = 0;
    if (std::istringstream(proc_file("/proc/sys/kernel/pid_max")) >> limit) node.max_processes = limit;
    return node;
}

}  // namespace

std::vector<std::set<pid_t>> processes_by_container(const ProcessTable& table, const PodTrace& trace,
                                                    pid_t agent) {
    std::set<pid_t> candidates = descendants(table, trace.shim.pid);
    candidates.merge(descendants(table, agent));
    std::vector<std::set<pid_t>> found;
    for (const ProcessMark& mark : trace.report.processes) {
        std::set<pid_t> members = descendants(table, mark.pid);
        for (const pid_t pid : candidates) {
            if (table.at(pid).session == mark.pid ||
                (!members.contains(pid) && has_mark(pid, trace.intent.id.uid, mark.container))) {
                members.insert(pid);
            }
        }
        found.push_back(std::move(members));
    }
    return found;
}

std::optional<CpuStats> parse_node_cpu(const std::string& stat, WallTime now) {
    std::istringstream fields(stat);
    std::string name;
    std::uint64_t user = 0, nice = 0, system = 0, idle = 0, iowait = 0, irq = 0, softirq = 0, steal = 0;
    if (!(fields >> name >> user >> nice >> system >> idle >> iowait >> irq >> softirq >> steal) ||
        name != "cpu") {
        return std::nullopt;
    }
    CpuStats stats = cpu(cpu_nanoseconds(user + nice + system + irq + softirq + steal), now);
    stats.user_nano_seconds = cpu_nanoseconds(user + nice);
    stats.system_nano_seconds = cpu_nanoseconds(system + irq + softirq);
    return stats;
}

std::optional<WallTime> parse_boot_time(const std::string& stat) {
    const std::size_t at = stat.find("\nbtime ");
    std::int64_t seconds = 0;
    if (at == std::string::npos || !(std::istringstream(stat.substr(at + 7, 32)) >> seconds))
        return std::nullopt;
    return WallTime(std::chrono::seconds(seconds));
}

std::optional<MemoryStats> parse_node_memory(const std::string& meminfo, WallTime now) {
    std::map<std::string, std::uint64_t> bytes;
    std::istringstream lines(meminfo);
    for (std::string line; std::getline(lines, line);) {
        std::istringstream fields(line);
        std::string name;
        std::uint64_t kib = 0;
        if (fields >> name >> kib) bytes[name] = kib * 1024;
    }
    for (const char* needed : {"MemTotal:", "MemFree:", "Inactive(file):", "AnonPages:"}) {
        if (!bytes.contains(needed)) return std::nullopt;
    }
    MemoryStats memory;
    memory.time = now;
    const std::uint64_t total = bytes["MemTotal:"], used = total - std::min(total, bytes["MemFree:"]);
    memory.usage_bytes = used;
    memory.working_set_bytes = used - std::min(used, bytes["Inactive(file):"]);
    memory.available_bytes = total - *memory.working_set_bytes;
    memory.rss_bytes = bytes["AnonPages:"];
    if (bytes.contains("SwapTotal:") && bytes.contains("SwapFree:")) {
        memory.swap_bytes = bytes["SwapTotal:"] - std::min(bytes["SwapTotal:"], bytes["SwapFree:"]);
    }
    return memory;
}

PodStats UsageReader::read_pod(const PodTrace& trace, const ProcessTable& table, Clock& clock,
                               std::map<Key, std::uint64_t>& seen) const {
    const PodId& id = trace.intent.id;
    PodStats pod;
    pod.id = id;
    pod.start_time = parse_rfc3339(string_at(trace.report.pod_status, {"startTime"}));
    const auto never_back = [&](const std::string& container, int run, std::uint64_t used) {
        const Key key{id.uid, container, run};
        const auto before = highest_.find(key);
        return seen[key] = before == highest_.end() ? used : std::max(used, before->second);
    };
    const auto& marks = trace.report.processes;
    const auto by_container = processes_by_container(table, trace, ::getpid());
    const auto shim = table.find(trace.shim.pid);
    const std::uint64_t reaped = shim == table.end() ? 0 : cpu_nanoseconds(shim->second.child_cpu_ticks);
    std::set<pid_t> all;
    for (std::size_t i = 0; i < marks.size(); ++i) {
        const ProcessMark& mark = marks[i];
        ContainerStats container;
        container.name = mark.container;
        container.start_time = started_at(trace, mark.container);
        std::uint64_t used = cpu_of(table, by_container[i]);
        // What the shim had waited for before this run is of others.
        if (marks.size() == 1 && mark.reaped_before) used += reaped - std::min(reaped, *mark.reaped_before);
        const WallTime now = clock.wall_now();
        container.cpu = cpu(never_back(mark.container, mark.run, used), now);
        container.memory = memory_of(by_container[i], now);
        container.process = counts_of(table, by_container[i], now);
        container.logs = logs_of(store_.paths(id.uid).container_logs(mark.container), now);
        pod.containers.push_back(std::move(container));
        all.insert(by_container[i].begin(), by_container[i].end());
    }
    const WallTime now = clock.wall_now();
    pod.cpu = cpu(never_back("", 0, cpu_of(table, all) + reaped), now);
    pod.process = counts_of(table, all, now);
    return pod;
}

Result<StatsReport> UsageReader::read(Clock& clock) {
    auto uids = store_.uids();
    if (!uids) return fail(uids.error());
    const std::scoped_lock one_at_a_time(mutex_);
    StatsReport report;
    const ProcessTable table = read_process_table();
    report.node = read_node(store_.state_directory(), table, clock);
    std::map<Key, std::uint64_t> seen;
    for (const std::string& uid : *uids) {
        // A pod that is just being removed is left out.
        const auto trace = store_.inspect(uid);
        if (!trace || trace->stage != Stage::Running) continue;
        report.pods.push_back(read_pod(*trace, table, clock, seen));
    }
    highest_ = std::move(seen);
    return report;
}

}  // namespace k8sgpu::providers::process
