// The pods' directories as the agent sees them (paths.h draws the layout). All state is in the files, so a
// new agent knows as much as the old one; only the agent that owns the state directory uses it.
//
//   Absent ─create()▶ Intended ─start_shim()▶ Running ─▶ Ended ─erase()▶ Absent
//                                               └▶ Died ─bury()▶ Ended
//
// Any thread; never two calls for the same pod at once, except inspect() and bury(), which lock.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "common/call_context.h"
#include "providers/process/paths.h"
#include "providers/process/report.h"

namespace k8sgpu::providers::process {

enum class Stage {
    Absent,    // no trace
    Intended,  // pod.json is there, no shim has ever run it: for everybody else, no pod yet
    Running,   // a shim holds the lock and has not said its last word
    Died,      // the shim is gone without a last word
    Ended,     // nothing runs; the trace waits for removal
};

struct ShimMark {
    pid_t pid = 0;
    std::uint64_t start_time = 0;
    std::string boot_id;
};

struct PodTrace {
    Stage stage = Stage::Absent;
    PodIntent intent;
    Report report;  // as far as there is one
    ShimMark shim;
    Orders orders;
};

class PodStore {
  public:
    // `shim_command`: what starts a shim, without its "--dir".
    PodStore(std::string state_directory, std::vector<std::string> shim_command)
        : state_(std::move(state_directory)), shim_command_(std::move(shim_command)) {}

    // Makes the directories and clears what an interrupted erase() or create() left. Invalid when others may
    // write there.
    Result<void> open();

    // UIDs of all pods with a trace.
    Result<std::vector<std::string>> uids() const;
    // Intents of pods that are not Ended: what they hold is in use. Complete or fails.
    Result<std::vector<PodIntent>> intents_in_use() const;

    Result<PodTrace> inspect(const std::string& uid) const;

    // Durable when it returns.
    Result<void> create(const PodIntent& intent) const;
    // Returns once the shim runs, or has run before; Unavailable with its text when it could not.
    Result<void> start_shim(const std::string& uid, const CallContext& ctx) const;
    Result<void> order(const std::string& uid, const Orders& orders) const;

    // Kills what a dead shim left and writes its last word. Unavailable while something of it will not die,
    // Conflict while another thread is at it.
    Result<Report> bury(const PodTrace& trace, WallTime now) const;
    // SIGKILL to a shim that does not obey; the pod is then Died.
    void kill_shim(const PodTrace& trace) const;

    Result<void> erase(const std::string& uid) const;
    // erase() of a pod that is only Intended; Conflict when a shim has taken it just now.
    Result<void> discard(const std::string& uid) const;

    PodPaths paths(const std::string& uid) const { return pod_paths(state_, uid); }
    const std::string& state_directory() const { return state_; }

  private:
    std::string state_;
    std::vector<std::string> shim_command_;
};

}  // namespace k8sgpu::providers::process
