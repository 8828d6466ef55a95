// The host's processes as /proc shows them, and which of them belong to a pod. Any thread.
//
// A process of a pod is found in three ways, each of which survives what breaks the others: as a descendant
// of the living shim (a subreaper, so orphans stay below it), by the session of a container's main process,
// and by the mark in its environment, which outlives the shim. Numbers are only trusted together with start
// times.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>

namespace k8sgpu::providers::process {

struct ProcessInfo {
    pid_t parent = 0;
    pid_t session = 0;
    char state = '?';                   // 'Z' = zombie
    std::uint64_t cpu_ticks = 0;        // user and system, of the process itself
    std::uint64_t child_cpu_ticks = 0;  // of children that it has waited for, and of theirs
    std::uint64_t threads = 0;
    std::uint64_t start_time = 0;  // clock ticks since boot
};

using ProcessTable = std::map<pid_t, ProcessInfo>;

// One line of /proc/<pid>/stat; nullopt when it makes no sense. Names may hold blanks and parentheses.
std::optional<ProcessInfo> parse_stat(const std::string& line);

std::uint64_t cpu_nanoseconds(std::uint64_t ticks);

ProcessTable read_process_table();
std::optional<ProcessInfo> read_process(pid_t pid);

// All below `ancestor`, without it.
std::set<pid_t> descendants(const ProcessTable& table, pid_t ancestor);

// True when the process started with this pod's mark, and with this container's unless that is empty.
// Processes of others, whose environment may not be read, are never ours.
bool has_mark(pid_t pid, const std::string& pod_uid, const std::string& container);
// All of them; `container` empty: the whole pod. Zombies do not count: they hold no environment.
std::set<pid_t> marked(const ProcessTable& table, const std::string& pod_uid, const std::string& container);

// SIGKILL to each that still is the process of the table.
void kill_all(const ProcessTable& table, const std::set<pid_t>& pids);

}  // namespace k8sgpu::providers::process
