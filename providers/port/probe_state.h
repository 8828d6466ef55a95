// Probes of one run of a container as a step function: when to probe, and what the results add up to
// (kubelet-contract §5.7). It runs nothing and knows no clock, so that any provider that probes by itself can
// use it. Belongs to one thread.
//
//   started ──▶ [startup probe until it succeeds] ──▶ liveness and readiness, each on its own
#pragma once

#include <array>
#include <optional>
#include <string>
#include <vector>

#include "common/clock.h"
#include "common/json.h"

namespace k8sgpu::providers {

enum class ProbeKind { Startup, Liveness, Readiness };
inline constexpr std::array kProbeKinds = {ProbeKind::Startup, ProbeKind::Liveness, ProbeKind::Readiness};

const char* field_of(ProbeKind kind);  // "startupProbe"
const char* name_of(ProbeKind kind);   // "Startup", as Events have it

struct ProbeTiming {
    Duration initial_delay{0};
    Duration period{10'000};
    Duration timeout{1'000};
    int successes = 1, failures = 3;  // in a row
};
// With the API's defaults; periods and thresholds are at least 1.
ProbeTiming timing_of(const Json& probe);

class ProbeState {
  public:
    // Of a run that starts now. Probes that the container does not have are nullopt.
    ProbeState(std::array<std::optional<ProbeTiming>, 3> timings, SteadyTime now);

    // The probes to run now. Each counts as under way until its result() came; never two of a kind.
    std::vector<ProbeKind> due(SteadyTime now);
    std::optional<SteadyTime> wake_at() const;  // when due() has something next
    // `decided`: false for a probe that could not be carried out, which counts for nothing.
    void result(ProbeKind kind, bool success, bool decided);

    bool started() const { return started_; }  // no startup probe, or it has succeeded
    bool ready() const { return started_ && ready_; }
    // The probe after whose failure the container is to be killed. Stays once it is set.
    std::optional<ProbeKind> failed() const { return failed_; }
    // Readiness goes on while a container is being stopped; the others do not.
    void stopping() { stopping_ = true; }

  private:
    struct Probe {
        std::optional<ProbeTiming> timing;
        SteadyTime next{};
        bool under_way = false;
        bool last = false;  // the result that `in_a_row` counts
        int in_a_row = 0;
    };
    bool active(ProbeKind kind) const;
    Probe& at(ProbeKind kind) { return probes_[static_cast<std::size_t>(kind)]; }
    const Probe& at(ProbeKind kind) const { return probes_[static_cast<std::size_t>(kind)]; }

    std::array<Probe, 3> probes_;
    bool started_ = false, ready_ = false, stopping_ = false;
    std::optional<ProbeKind> failed_;
};

}  // namespace k8sgpu::providers
