// What the processes of pods use, from /proc: pods have no cgroup of their own here. Any thread.
//
// CPU counts children that have ended: a process that was waited for is in its parent's figure, and one whose
// parent is gone in the shim's, which is the container's where it runs alone. What cannot be attributed (an
// orphan of one of several containers, children of a process that ignores SIGCHLD) leaves a figure too low,
// never one that goes back.
#pragma once

#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "providers/port/stats.h"
#include "providers/process/pod_store.h"
#include "providers/process/process_table.h"

namespace k8sgpu::providers::process {

// Which of the running containers' processes are which: by descent and session, else by the mark in their
// environment. Processes below `agent` (commands of exec) count too. One entry per mark, in its order.
std::vector<std::set<pid_t>> processes_by_container(const ProcessTable& table, const PodTrace& trace,
                                                    pid_t agent);

// Of the machine: the texts of /proc/stat and /proc/meminfo. Absent where they make no sense. Pure.
std::optional<CpuStats> parse_node_cpu(const std::string& stat, WallTime now);
std::optional<WallTime> parse_boot_time(const std::string& stat);
std::optional<MemoryStats> parse_node_memory(const std::string& meminfo, WallTime now);

class UsageReader {
  public:
    explicit UsageReader(const PodStore& store) : store_(store) {}

    // Errors: those of reading the state directory.
    Result<StatsReport> read(Clock& clock);

  private:
    struct Key {
        std::string uid, container;
        int run;
        auto operator<=>(const Key&) const = default;
    };
    PodStats read_pod(const PodTrace& trace, const ProcessTable& table, Clock& clock,
                      std::map<Key, std::uint64_t>& seen) const;

    const PodStore& store_;
    std::mutex mutex_;                      // one reading at a time; held over reads of /proc only
    std::map<Key, std::uint64_t> highest_;  // CPU that was reported, which no later report goes below
};

}  // namespace k8sgpu::providers::process
