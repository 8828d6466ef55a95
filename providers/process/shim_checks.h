// Probes and hooks of one run of a container, in the shim, so that they go on while no agent runs. Attempts
// run in children (handler_child.h); ProbeState decides. Belongs to the shim's thread.
//
//   started ─▶ postStart ─▶ probes … ─▶ stop() ─▶ preStop ─▶ SIGTERM may be sent
#pragma once

#include <poll.h>

#include <array>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "providers/port/probe_state.h"
#include "providers/process/handler_child.h"
#include "providers/process/intent.h"
#include "providers/process/pod_events.h"

namespace k8sgpu::providers::process {

class ShimChecks {
  public:
    // `command`: environment, directory and user for handlers of kind exec. `address`: the pod's.
    ShimChecks(const ContainerIntent& container, SpawnRequest command, const std::string& address,
               SteadyTime now);

    // Starts what is due; ends what takes too long.
    void step(SteadyTime now);
    std::optional<SteadyTime> wake_at() const;

    void add_to(std::vector<pollfd>& fds) const;
    // True when anything was decided.
    bool handle(const std::vector<pollfd>& fds, std::size_t first, SteadyTime now);

    bool hooking() const { return post_start_.has_value(); }  // postStart is under way
    bool started() const { return !hooking() && state_.started(); }
    bool ready() const { return !hooking() && state_.ready(); }

    // The run is to be ended, because a probe or postStart has failed: the reason, once.
    struct Verdict {
        PodEvent event;
        std::optional<std::chrono::seconds> grace;  // the probe's own
    };
    std::optional<Verdict> take_verdict();

    // The run is being ended, and has this long. True when SIGTERM may be sent: now, or once preStop is over.
    bool stop(Duration grace, SteadyTime now);
    // preStop is over since the last call: send SIGTERM.
    bool take_stopped();

    std::vector<PodEvent> take_events();

  private:
    struct Attempt {
        HandlerChild child;
        SteadyTime until;
    };
    std::optional<Attempt> attempt(const Handler& handler, Duration timeout, SteadyTime now);
    void decide(ProbeKind kind, const HandlerResult& result);
    void hooked(const HandlerResult& result);

    const ContainerIntent& container_;
    const SpawnRequest command_;
    std::array<std::optional<Handler>, 3> probes_;
    std::array<ProbeTiming, 3> timings_;
    std::optional<Handler> pre_stop_handler_;
    ProbeState state_;
    std::array<std::optional<Attempt>, 3> attempts_;
    std::optional<Attempt> post_start_, pre_stop_;
    std::optional<Verdict> verdict_;
    bool condemned_ = false, stopping_ = false, stopped_ = false;
    std::vector<PodEvent> events_;
};

}  // namespace k8sgpu::providers::process
