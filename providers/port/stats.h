// A provider's optional ability to measure what its pods use. See provider.h for threads and lifetime.
//
// Every figure is optional, and absent means "cannot be measured here": a source never guesses, and never
// fills in zero. The API leaves absent figures out of every answer, as the kubelet does, and adds up what is
// missing at pod level from the containers. Units are in the names; names follow stats.kubelet.io/v1alpha1.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "common/call_context.h"
#include "common/pod_id.h"

namespace k8sgpu::providers {

// Each group carries the moment at which it was read: rates are computed from it, so it must move on between
// two different readings and must be the reading's own time, not the caller's. A group without a reading is
// absent.
struct CpuStats {
    WallTime time;
    // Since the container started; never decreases while it runs, counts children that have ended.
    std::optional<std::uint64_t> usage_core_nano_seconds;
    // 1e9 = one core, averaged over some 10 to 20 s before `time`. A source that has counters only leaves it
    // out: the API derives it from two readings.
    std::optional<std::uint64_t> usage_nano_cores;
    std::optional<std::uint64_t> user_nano_seconds, system_nano_seconds;  // parts of the first
};

struct MemoryStats {
    WallTime time;
    std::optional<std::uint64_t> usage_bytes;        // with page cache
    std::optional<std::uint64_t> working_set_bytes;  // usage without inactive file pages
    std::optional<std::uint64_t> rss_bytes;          // anonymous memory
    std::optional<std::uint64_t> cache_bytes, mapped_file_bytes;
    std::optional<std::uint64_t> swap_bytes;
    std::optional<std::uint64_t> available_bytes;  // limit less working set; only where a limit is enforced
    std::optional<std::uint64_t> page_faults, major_page_faults;  // since start
};

struct IoStats {
    WallTime time;
    std::optional<std::uint64_t> read_bytes, written_bytes;          // since start, to and from storage
    std::optional<std::uint64_t> read_operations, write_operations;  // since start
};

struct FileSystemStats {
    WallTime time;
    std::optional<std::uint64_t> used_bytes, available_bytes, capacity_bytes;
    std::optional<std::uint64_t> inodes_used, inodes_free, inodes;
};

struct InterfaceStats {
    std::string name;  // "eth0"
    std::optional<std::uint64_t> rx_bytes, rx_packets, rx_errors, rx_dropped;
    std::optional<std::uint64_t> tx_bytes, tx_packets, tx_errors, tx_dropped;
};

// Only where a pod has a network of its own. What it shares with the host is the host's traffic and is left
// out.
struct NetworkStats {
    WallTime time;
    std::vector<InterfaceStats> interfaces;  // the default route's first
};

struct ProcessStats {
    WallTime time;
    std::optional<std::uint64_t> processes, threads, file_descriptors, sockets;
};

struct ContainerStats {
    std::string name;
    // Of the run that the figures belong to, as status.containerStatuses[].state.running.startedAt has it. A
    // new run starts new counters.
    std::optional<WallTime> start_time;
    std::optional<CpuStats> cpu;
    std::optional<MemoryStats> memory;
    std::optional<IoStats> io;
    std::optional<ProcessStats> process;
    std::optional<FileSystemStats> root_fs;  // its writable layer or working directory
    std::optional<FileSystemStats> logs;
    std::optional<std::uint64_t> oom_events;  // since start
};

struct PodStats {
    PodId id;
    std::optional<WallTime> start_time;
    std::vector<ContainerStats> containers;  // running ones only, regular, sidecar, init and ephemeral
    // Only where measured for the pod as a whole (a cgroup of its own); else left to the API, which adds up.
    std::optional<CpuStats> cpu;
    std::optional<MemoryStats> memory;
    std::optional<ProcessStats> process;
    std::optional<NetworkStats> network;
    std::optional<FileSystemStats> ephemeral_storage;
    std::map<std::string, FileSystemStats> volumes;  // by the volume's name in the pod's spec
};

// Of the machine that pods run on, where it can be measured. Where not, the API shows the sum over pods and
// this program as the node.
struct NodeStats {
    std::optional<WallTime> start_time;
    std::optional<CpuStats> cpu;
    std::optional<MemoryStats> memory;
    std::optional<NetworkStats> network;
    std::optional<FileSystemStats> fs;  // that logs and working directories are on
    std::optional<std::uint64_t> max_processes, processes;
};

struct StatsReport {
    std::optional<NodeStats> node;
    std::vector<PodStats> pods;  // running pods; one that cannot be measured at the moment is left out
};

class StatsSource {
  public:
    virtual ~StatsSource() = default;
    // What all pods use. Complete for what can be read: a pod that ends meanwhile is left out and is no
    // error. Called for every scrape, several at once: a source whose readings are costly answers from a
    // cache of some seconds and lets one caller refresh it. Errors: Unavailable or Timeout (backend away),
    // Forbidden (not allowed to measure), Unsupported (nothing there that measures).
    virtual Result<StatsReport> stats(const CallContext& ctx) = 0;
};

}  // namespace k8sgpu::providers
