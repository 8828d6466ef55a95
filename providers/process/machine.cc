#include "providers/process/machine.h"

#include <algorithm>

namespace k8sgpu::providers::process {

Machine::Machine(const PodIntent& intent, Times now)
    : intent_(intent),
      created_(now),
      records_(intent.containers.size()),
      active_deadline_(intent.active_deadline) {}

std::vector<Action> Machine::step(Times now) {
    std::vector<Action> out;
    if (ended_) return out;
    if (!stopping() && active_deadline_ && now.steady >= deadline_at()) {
        deadline_exceeded_ = true;
        stop(intent_.grace, /*removal=*/false, now);
    }
    if (stopping()) {
        step_stop(now, out);
    } else {
        step_run(now, out);
    }
    return out;
}

// Those that are to end while the pod goes on.
void Machine::end_runs(Times now, std::vector<Action>& out) {
    for (std::size_t i = 0; i < records_.size(); ++i) {
        ContainerRecord& record = records_[i];
        if (record.phase != ContainerPhase::Running || !record.kill_at) continue;
        if (now.steady >= *record.kill_at) {
            if (!record.kill_sent) out.emplace_back(KillContainer{i});
            record.kill_sent = true;
        } else if (!record.term_sent) {
            out.emplace_back(TerminateContainer{i});
            record.term_sent = true;
        }
    }
}

void Machine::end_run(std::size_t index, std::chrono::seconds grace, Times now) {
    ContainerRecord& record = records_[index];
    if (record.phase != ContainerPhase::Running || record.kill_at) return;
    record.kill_at = now.steady + std::min<std::chrono::seconds>(grace, std::chrono::hours(24 * 36500));
}

void Machine::set_checks(std::size_t index, bool hooking, bool passed, bool ready) {
    ContainerRecord& record = records_[index];
    record.hooking = hooking;
    record.passed = passed;
    record.ready = ready;
}

std::optional<SteadyTime> Machine::kill_at(std::size_t index) const {
    const auto& own = records_[index].kill_at;
    return own && kill_at_ ? std::min(*own, *kill_at_) : own ? own : kill_at_;
}

void Machine::step_stop(Times now, std::vector<Action>& out) {
    bool running = false;
    for (std::size_t i = 0; i < records_.size(); ++i) {
        ContainerRecord& record = records_[i];
        if (record.phase == ContainerPhase::BackingOff) record.phase = ContainerPhase::Ended;
        if (record.phase != ContainerPhase::Running) continue;
        running = true;
        if (now.steady >= *kill_at(i)) {
            if (!record.kill_sent) out.emplace_back(KillContainer{i});
            record.kill_sent = true;
        } else if (!record.term_sent) {
            out.emplace_back(TerminateContainer{i});
            record.term_sent = true;
        }
    }
    ended_ = !running;
}

void Machine::step_run(Times now, std::vector<Action>& out) {
    bool all_ended = true;
    end_runs(now, out);
    for (std::size_t i = 0; i < records_.size(); ++i) {
        const ContainerRecord& record = records_[i];
        const bool due = record.phase == ContainerPhase::Waiting ||
                         (record.phase == ContainerPhase::BackingOff && now.steady >= record.restart_at);
        if (due) start(i, now, out);
        if (record.phase != ContainerPhase::Ended) all_ended = false;
        // Regular containers start one after the other, each once the hook of the one before is over.
        if (!intent_.containers[i].init) {
            if (record.phase == ContainerPhase::Running && record.hooking) return;
            continue;
        }
        const bool succeeded = record.phase == ContainerPhase::Ended && record.last->exit_code == 0;
        if (succeeded) continue;
        // An init container holds up everything behind it; one that will not run again fails the pod.
        ended_ = record.phase == ContainerPhase::Ended;
        return;
    }
    ended_ = all_ended;
}

void Machine::start(std::size_t index, Times now, std::vector<Action>& out) {
    ContainerRecord& record = records_[index];
    if (record.phase == ContainerPhase::BackingOff) {
        const bool fresh = record.delay == Duration::zero() ||
                           record.finished - record.delay_set > intent_.limits.backoff_reset;
        record.delay =
            fresh ? intent_.limits.backoff_initial : std::min(record.delay * 2, intent_.limits.backoff_cap);
        record.delay_set = now.steady;
    }
    ++record.run;
    record.term_sent = record.kill_sent = false;
    record.kill_at.reset();
    // Known before it runs: what comes behind must not start in the same step.
    record.hooking = at(intent_.containers[index].checks, {"lifecycle", "postStart"}).is_object();
    record.passed = record.ready = true;
    record.started = now.wall;
    record.phase = ContainerPhase::Running;
    out.emplace_back(StartContainer{index, record.run});
}

void Machine::started(std::size_t index, Times now) {
    records_[index].started = now.wall;
}

void Machine::exited(std::size_t index, int exit_code, std::string reason, std::string message, Times now) {
    ContainerRecord& record = records_[index];
    record.previous = std::move(record.last);
    record.last =
        Termination{record.run, exit_code, std::move(reason), std::move(message), record.started, now.wall};
    record.finished = now.steady;
    if (stopping() || !restartable(index, exit_code)) {
        record.phase = ContainerPhase::Ended;
        return;
    }
    record.phase = ContainerPhase::BackingOff;
    record.restart_at = in_backoff(record) ? record.finished + record.delay : record.finished;
}

void Machine::stop(std::chrono::seconds grace, bool removal, Times now) {
    // Steady time has no room for the graces that the API accepts; a century is as good.
    const auto bounded = std::min<std::chrono::seconds>(grace, std::chrono::hours(24 * 36500));
    const SteadyTime at = now.steady + bounded;
    kill_at_ = kill_at_ ? std::min(*kill_at_, at) : at;
    removing_ = removing_ || removal;
}

std::optional<SteadyTime> Machine::wake_at() const {
    if (ended_) return std::nullopt;
    std::optional<SteadyTime> earliest;
    const auto consider = [&](SteadyTime at) { earliest = earliest ? std::min(*earliest, at) : at; };
    for (const ContainerRecord& record : records_) {
        if (!stopping() && record.phase == ContainerPhase::BackingOff) consider(record.restart_at);
        const auto end = kill_at(static_cast<std::size_t>(&record - records_.data()));
        if (end && record.phase == ContainerPhase::Running && !record.kill_sent) consider(*end);
    }
    if (!stopping() && active_deadline_) consider(deadline_at());
    return earliest;
}

bool Machine::initialized() const {
    for (std::size_t i = 0; i < records_.size(); ++i) {
        if (!intent_.containers[i].init) continue;
        if (records_[i].phase != ContainerPhase::Ended || records_[i].last->exit_code != 0) return false;
    }
    return true;
}

bool Machine::restartable(std::size_t index, int exit_code) const {
    if (intent_.restart == RestartPolicy::Never) return false;
    if (intent_.restart == RestartPolicy::OnFailure || intent_.containers[index].init) return exit_code != 0;
    return true;
}

bool Machine::in_backoff(const ContainerRecord& record) const {
    return record.delay > Duration::zero() &&
           record.finished - record.delay_set <= intent_.limits.backoff_reset;
}

SteadyTime Machine::deadline_at() const {
    return created_.steady +
           std::min<std::chrono::seconds>(*active_deadline_, std::chrono::hours(24 * 36500));
}

}  // namespace k8sgpu::providers::process
