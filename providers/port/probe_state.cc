#include "providers/port/probe_state.h"

#include <algorithm>

namespace k8sgpu::providers {

const char* field_of(ProbeKind kind) {
    constexpr std::array names = {"startupProbe", "livenessProbe", "readinessProbe"};
    return names[static_cast<std::size_t>(kind)];
}
const char* name_of(ProbeKind kind) {
    constexpr std::array names = {"Startup", "Liveness", "Readiness"};
    return names[static_cast<std::size_t>(kind)];
}

ProbeTiming timing_of(const Json& probe) {
    // The API has 32 bits for each; steady time has room for that.
    constexpr std::int64_t most = 2'147'483'647;
    const auto number = [&](const char* name, std::int64_t otherwise, std::int64_t least) {
        const std::int64_t value = int_at(probe, {name}, otherwise);
        return std::clamp(value == 0 ? otherwise : value, least, most);
    };
    ProbeTiming timing;
    timing.initial_delay = std::chrono::seconds(number("initialDelaySeconds", 0, 0));
    timing.period = std::chrono::seconds(number("periodSeconds", 10, 1));
    timing.timeout = std::chrono::seconds(number("timeoutSeconds", 1, 1));
    timing.successes = static_cast<int>(number("successThreshold", 1, 1));
    timing.failures = static_cast<int>(number("failureThreshold", 3, 1));
    return timing;
}

ProbeState::ProbeState(std::array<std::optional<ProbeTiming>, 3> timings, SteadyTime now) {
    for (const ProbeKind kind : kProbeKinds) {
        Probe& probe = at(kind);
        probe.timing = timings[static_cast<std::size_t>(kind)];
        if (probe.timing) probe.next = now + probe.timing->initial_delay;
    }
    started_ = !at(ProbeKind::Startup).timing;
    ready_ = !at(ProbeKind::Readiness).timing;
}

bool ProbeState::active(ProbeKind kind) const {
    if (!at(kind).timing || failed_) return false;
    if (stopping_ && kind != ProbeKind::Readiness) return false;
    return kind == ProbeKind::Startup ? !started_ : started_;
}

std::vector<ProbeKind> ProbeState::due(SteadyTime now) {
    std::vector<ProbeKind> kinds;
    for (const ProbeKind kind : kProbeKinds) {
        Probe& probe = at(kind);
        if (!active(kind) || probe.under_way || now < probe.next) continue;
        probe.under_way = true;
        probe.next = now + probe.timing->period;
        kinds.push_back(kind);
    }
    return kinds;
}

std::optional<SteadyTime> ProbeState::wake_at() const {
    std::optional<SteadyTime> earliest;
    for (const ProbeKind kind : kProbeKinds) {
        const Probe& probe = at(kind);
        if (!active(kind) || probe.under_way) continue;
        earliest = earliest ? std::min(*earliest, probe.next) : probe.next;
    }
    return earliest;
}

void ProbeState::result(ProbeKind kind, bool success, bool decided) {
    Probe& probe = at(kind);
    if (!probe.timing || !probe.under_way) return;
    probe.under_way = false;
    if (!decided || !active(kind)) return;
    probe.in_a_row = probe.last == success ? probe.in_a_row + 1 : 1;
    probe.last = success;
    if (probe.in_a_row < (success ? probe.timing->successes : probe.timing->failures)) return;
    if (kind == ProbeKind::Readiness) {
        ready_ = success;
    } else if (!success) {
        failed_ = kind;
    } else if (kind == ProbeKind::Startup) {
        started_ = true;
    }
}

}  // namespace k8sgpu::providers
