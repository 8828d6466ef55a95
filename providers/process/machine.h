// The life of one pod as a step function: what the shim shall do next, given what happened so far. Rules are
// the kubelet's (kubelet-contract §5.3, §5.6, §5.8). It owns no process and no clock, so tables test it.
//
//   step() ──▶ Start / Terminate / Kill ──▶ shim ──▶ started() / exited() ──▶ step() …   until ended()
//
//                 ┌────────────── restart, at once or after back-off ──────────────┐
//   Waiting ──▶ Running ──▶ (restartable?) ──▶ BackingOff ─────────────────────────┘
//                              └──────────────▶ Ended
// Belongs to one thread.
#pragma once

#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "providers/process/intent.h"

namespace k8sgpu::providers::process {

struct Times {
    SteadyTime steady;
    WallTime wall;
};

// How one run of a container ended.
struct Termination {
    int run = 0;
    int exit_code = 0;   // 128 + signal when killed
    std::string reason;  // Completed, Error, StartError
    std::string message;
    WallTime started, finished;
};

enum class ContainerPhase { Waiting, Running, BackingOff, Ended };

struct ContainerRecord {
    ContainerPhase phase = ContainerPhase::Waiting;
    int run = -1;  // of the current or last run; restartCount once it is not negative
    WallTime started;
    std::optional<Termination> last;      // Running, BackingOff: the run before; Ended: this one
    std::optional<Termination> previous;  // the one before `last`

    // Crash back-off as the kubelet keeps it: none before the first restart.
    Duration delay{0};
    SteadyTime delay_set{};
    SteadyTime finished{};
    SteadyTime restart_at{};

    bool term_sent = false, kill_sent = false;  // of this run
    std::optional<SteadyTime> kill_at;          // of this run: it is being ended, and the pod is not
    // What probes and postStart say of this run.
    bool hooking = false, passed = true, ready = true;
};

struct StartContainer {
    std::size_t index;
    int run;
};
struct TerminateContainer {
    std::size_t index;
};
struct KillContainer {
    std::size_t index;
};
using Action = std::variant<StartContainer, TerminateContainer, KillContainer>;

class Machine {
  public:
    // `intent` outlives the machine.
    Machine(const PodIntent& intent, Times now);

    // What to do now. The shim carries it out and reports before it asks again.
    std::vector<Action> step(Times now);
    // When step() has something to do next without any report; nullopt when only reports can change anything.
    std::optional<SteadyTime> wake_at() const;

    void started(std::size_t index, Times now);
    // Also for a start that failed (reason StartError, code 128); `run` started or not, it counts.
    void exited(std::size_t index, int exit_code, std::string reason, std::string message, Times now);

    // Ends this run of a container, as after a failed probe; what follows is up to the restart policy.
    void end_run(std::size_t index, std::chrono::seconds grace, Times now);
    // Of a running container: postStart is under way, the startup probe has passed, it is ready.
    void set_checks(std::size_t index, bool hooking, bool passed, bool ready);
    // When the run must have ended, for whatever reason; nullopt while it may go on.
    std::optional<SteadyTime> kill_at(std::size_t index) const;

    // Ends the pod; repeated calls only shorten. `removal`: by order, as opposed to the host's shutdown.
    void stop(std::chrono::seconds grace, bool removal, Times now);
    void set_active_deadline(std::chrono::seconds deadline) { active_deadline_ = deadline; }

    bool ended() const { return ended_; }  // nothing runs and nothing will
    bool stopping() const { return kill_at_.has_value(); }
    bool removing() const { return removing_; }
    bool initialized() const;  // every init container has succeeded
    bool deadline_exceeded() const { return deadline_exceeded_; }
    WallTime created() const { return created_.wall; }
    const std::vector<ContainerRecord>& records() const { return records_; }
    const PodIntent& intent() const { return intent_; }
    // Delay of the back-off that this container is in.
    Duration backoff_of(std::size_t index) const { return records_[index].delay; }

  private:
    bool restartable(std::size_t index, int exit_code) const;
    void end_runs(Times now, std::vector<Action>& out);
    bool in_backoff(const ContainerRecord& record) const;
    void start(std::size_t index, Times now, std::vector<Action>& out);
    void step_stop(Times now, std::vector<Action>& out);
    void step_run(Times now, std::vector<Action>& out);
    SteadyTime deadline_at() const;

    const PodIntent& intent_;
    Times created_;
    std::vector<ContainerRecord> records_;
    std::optional<std::chrono::seconds> active_deadline_;
    std::optional<SteadyTime> kill_at_;
    bool removing_ = false, deadline_exceeded_ = false, ended_ = false;
};

}  // namespace k8sgpu::providers::process
