#include "providers/process/process_table.h"

#include <dirent.h>
#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <memory>
#include <sstream>
#include <vector>

#include "common/file.h"
#include "providers/process/pidfd.h"
#include "providers/process/prepare.h"

namespace k8sgpu::providers::process {
namespace {

// The kernel's limit for one string is 128 KiB and for all a quarter of the stack limit; more is not looked
// at.
constexpr std::size_t kMaxEnvironment = 8U << 20U;

bool contains_entry(const std::string& block, const std::string& entry) {
    std::size_t at = 0;
    while (at < block.size()) {
        const std::size_t end = std::min(block.find('\0', at), block.size());
        if (block.compare(at, end - at, entry) == 0) return true;
        at = end + 1;
    }
    return false;
}

}  // namespace

std::optional<ProcessInfo> parse_stat(const std::string& line) {
    const std::size_t close = line.rfind(')');
    if (close == std::string::npos) return std::nullopt;
    std::istringstream rest(line.substr(close + 1));
    ProcessInfo info;
    pid_t group = 0;
    if (!(rest >> info.state >> info.parent >> group >> info.session)) return std::nullopt;
    // Terminal, flags and faults lie between, then priorities.
    std::string skipped;
    for (int field = 7; field <= 13; ++field) rest >> skipped;
    std::uint64_t user = 0, system = 0, child_user = 0, child_system = 0;
    rest >> user >> system >> child_user >> child_system >> skipped >> skipped >> info.threads >> skipped;
    if (!(rest >> info.start_time)) return std::nullopt;
    info.cpu_ticks = user + system;
    info.child_cpu_ticks = child_user + child_system;
    return info;
}

std::uint64_t cpu_nanoseconds(std::uint64_t ticks) {
    static const auto per_second = static_cast<std::uint64_t>(std::max(1L, ::sysconf(_SC_CLK_TCK)));
    return ticks * (1'000'000'000U / per_second);
}

std::optional<ProcessInfo> read_process(pid_t pid) {
    const auto line = read_file(fmt::format("/proc/{}/stat", pid), 4096);
    return line ? parse_stat(*line) : std::nullopt;
}

ProcessTable read_process_table() {
    ProcessTable table;
    const std::unique_ptr<DIR, int (*)(DIR*)> proc(::opendir("/proc"), &::closedir);
    if (proc == nullptr) return table;
    while (const dirent* entry = ::readdir(proc.get())) {
        const std::string_view name(entry->d_name);
        pid_t pid = 0;
        const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), pid);
        if (error != std::errc() || end != name.data() + name.size()) continue;
        if (auto info = read_process(pid)) table.emplace(pid, *info);
    }
    return table;
}

std::set<pid_t> descendants(const ProcessTable& table, pid_t ancestor) {
    std::multimap<pid_t, pid_t> children;
    for (const auto& [pid, info] : table) children.emplace(info.parent, pid);
    std::set<pid_t> found;
    std::vector<pid_t> open = {ancestor};
    while (!open.empty()) {
        const auto [first, last] = children.equal_range(open.back());
        open.pop_back();
        for (auto child = first; child != last; ++child) {
            if (child->second != ancestor && found.insert(child->second).second)
                open.push_back(child->second);
        }
    }
    return found;
}

bool has_mark(pid_t pid, const std::string& pod_uid, const std::string& container) {
    const auto block = read_file(fmt::format("/proc/{}/environ", pid), kMaxEnvironment);
    if (!block || !contains_entry(*block, fmt::format("{}={}", kPodMark, pod_uid))) return false;
    return container.empty() || contains_entry(*block, fmt::format("{}={}", kContainerMark, container));
}

std::set<pid_t> marked(const ProcessTable& table, const std::string& pod_uid, const std::string& container) {
    std::set<pid_t> found;
    for (const auto& [pid, info] : table) {
        if (info.state != 'Z' && has_mark(pid, pod_uid, container)) found.insert(pid);
    }
    return found;
}

void kill_all(const ProcessTable& table, const std::set<pid_t>& pids) {
    for (const pid_t pid : pids) {
        const auto known = table.find(pid);
        if (known == table.end()) continue;
        // The descriptor pins the process: once its start time is right, the number cannot change hands.
        const int fd = open_pidfd(pid);
        if (fd < 0) continue;
        const auto now = read_process(pid);
        if (now && now->start_time == known->second.start_time) signal_pidfd(fd, SIGKILL);
        ::close(fd);
    }
}

}  // namespace k8sgpu::providers::process
