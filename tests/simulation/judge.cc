#include "tests/simulation/judge.h"

#include "kube/object.h"
#include "vnode/pod_record.h"

namespace k8sgpu::simulation {

void Judge::blame(std::string what) {
    timeline_.trace("BROKEN {}", what);
    violations_.push_back(std::move(what));
}

bool Judge::disturbed(const std::string& uid) const {
    const auto found = ledgers_.find(uid);
    return found != ledgers_.end() && found->second.disturbed;
}

void Judge::local_changed(const Json* before, const Json* after, const Caller& by) {
    const std::string uid = kube::uid_of(after != nullptr ? *after : *before);
    Ledger& ledger = ledgers_[uid];
    ledger.known = true;
    ledger.exists = after != nullptr;
    if (after == nullptr) {
        ledger.wanted = false;
        return;
    }
    ledger.intent = ledger.intent || vnode::intent_recorded(*after);
    ledger.forwarded = ledger.forwarded || vnode::was_forwarded(*after);
    const std::string phase = string_at(*after, {"status", "phase"});
    const bool terminal = vnode::is_terminal_phase(phase);
    ledger.wanted = !kube::is_deleting(*after) && !terminal;
    if (!ledger.terminal.empty() && phase != ledger.terminal) {
        blame(fmt::format("{}: the phase went from {} to {}", uid, ledger.terminal, phase));
    }
    if (!terminal || !ledger.terminal.empty()) return;
    ledger.terminal = phase;
    if (by.empty() || ledger.exempt) return;
    if (ledger.may_be_running) {
        blame(fmt::format("{}: {} was written while its copy may be running", uid, phase));
    }
    if (phase == "Succeeded" && ledger.copy_ended != "Succeeded") {
        blame(fmt::format("{}: Succeeded was written, its copy {}", uid,
                          ledger.copy_ended.empty() ? "did not end" : "ended as " + ledger.copy_ended));
    }
    const bool deleting = kube::is_deleting(*after);
    const std::string reason = string_at(*after, {"status", "reason"});
    if (ledger.starts == 0 && reason == "UnexpectedAdmissionError") return;  // refused
    if (phase == "Failed" && !ledger.disturbed && !deleting && ledger.copy_ended != "Failed") {
        blame(fmt::format("{}: Failed ({}) was written, its copy {}", uid, reason,
                          ledger.copy_ended.empty() ? "did not end" : "ended as " + ledger.copy_ended));
    }
}

void Judge::local_delete_asked(const Json& pod, bool with_uid, const Caller& by) {
    if (by.empty()) return;
    const std::string uid = kube::uid_of(pod);
    const Ledger& ledger = ledgers_[uid];
    if (!with_uid) blame(fmt::format("{}: local delete without UID", uid));
    if (!kube::is_deleting(pod)) blame(fmt::format("{}: local delete that nobody asked for", uid));
    if (ledger.terminal.empty()) blame(fmt::format("{}: local delete before a terminal phase", uid));
    if (ledger.may_be_running && !ledger.exempt)
        blame(fmt::format("{}: local delete while its copy may be running", uid));
}

void Judge::copy_created(const PodId& id, const Caller& by, const Request& request) {
    if (by.empty()) return;
    Ledger& ledger = ledgers_[id.uid];
    ++counts_.starts;
    ++ledger.starts;
    ledger.may_be_running = true;
    if (!ledger.known) blame(fmt::format("{}: a copy of a pod that never was", id.uid));
    if (!ledger.intent) blame(fmt::format("{}: created before the intent was in the API", id.uid));
    if (ledger.starts == 1) {
        if (!request.given_up || ledger.wanted) return;
        ledger.exempt = true;
        ++counts_.late_starts;
        return;
    }
    if (ledger.in_gap || (ledger.disturbed && request.sent <= ledger.disturbed_at)) {
        ledger.exempt = true;
        ++counts_.known_gap;
        return;
    }
    if (request.sender_dead) {
        ledger.exempt = true;
        ++counts_.late_requests;
        return;
    }
    blame(fmt::format("{}: started {} times", id.uid, ledger.starts));
}

void Judge::copy_delete_asked(const std::string& name, const std::optional<PodId>& id, const Caller& owner,
                              bool with_uid, const Caller& by) {
    if (by.empty()) return;
    if (!id || owner != by) {
        blame(fmt::format("{}: deleted by the agent of {}, whose it is not", name, by));
        return;
    }
    if (!with_uid) blame(fmt::format("{}: copy deleted without UID", id->uid));
    if (ledgers_[id->uid].wanted)
        blame(fmt::format("{}: its copy was deleted although it is wanted", id->uid));
}

void Judge::copy_deleted_by_others(const PodId& id) {
    Ledger& ledger = ledgers_[id.uid];
    ledger.disturbed = true;
    ledger.disturbed_at = timeline_.now();
    ++counts_.lost;
    if (!ledger.forwarded) ledger.in_gap = true;
}

void Judge::copy_changed(const providers::ObservedPod& copy) {
    Ledger& ledger = ledgers_[copy.id.uid];
    ledger.may_be_running = copy.may_be_running && !copy.gone;
    const std::string phase = string_at(copy.status, {"phase"});
    if (vnode::is_terminal_phase(phase)) ledger.copy_ended = phase;
}

void Judge::completion_counted(const std::string& uid, bool success) {
    Ledger& ledger = ledgers_[uid];
    if (++ledger.counted > 1) blame(fmt::format("{}: counted {} times", uid, ledger.counted));
    if (!success) return;
    ++counts_.completions;
    if (ledger.copy_ended != "Succeeded" && !ledger.exempt)
        blame(fmt::format("{}: counted without having succeeded", uid));
}

}  // namespace k8sgpu::simulation
