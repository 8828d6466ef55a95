#include "vnode/pod_controller.h"

#include <algorithm>
#include <charconv>

#include "common/log.h"
#include "kube/object.h"

namespace k8sgpu::vnode {
namespace {

using providers::Blocked;
using providers::DesiredPod;
using providers::ObservedPod;
using providers::Refused;

// The kubelet's pause before it looks again for a missing ConfigMap or Secret.
constexpr Duration kBlockedRetry{5'000};
// kube-apiserver's --request-timeout: no request is executed later than this after it was sent.
constexpr Duration kRequestLives{60'000};

bool owned_by_daemon_set(const Json& pod) {
    return kube::owner_kind(pod) == "DaemonSet";
}

bool is_mirror_pod(const Json& pod) {
    return object_at(pod, {"metadata", "annotations"}).contains("kubernetes.io/config.mirror");
}

// Versions of one server are ordered numbers; anything else counts as old.
std::uint64_t version_of(const Json& object) {
    const std::string text = string_at(object, {"metadata", "resourceVersion"});
    std::uint64_t version = 0;
    std::from_chars(text.data(), text.data() + text.size(), version);
    return version;
}

// The backend is removing the copy of a pod that nobody deletes here.
bool removed_by_others(const PodRecord& record) {
    return record.local != nullptr && record.backend->removing && !record.removed_at &&
           !kube::is_deleting(*record.local) &&
           !is_terminal_phase(string_at(*record.local, {"status", "phase"}));
}

}  // namespace

PodController::PodController(PodControllerOptions options, AdmissionCheck check)
    : options_(std::move(options)), check_(std::move(check)) {}

std::vector<PodIntent> PodController::step(const PodEvent& event, Times now) {
    Intents out;
    std::visit([&](const auto& e) { on(e, now, out); }, event);
    return out;
}

bool PodController::still_wanted(const DoEnsure& intent, SteadyTime now) const {
    const auto found = records_.find(intent.id.uid);
    if (found == records_.end()) return false;
    PodRecord record = found->second;
    record.in_flight = WorkKind::None;
    return decide(record, {now, local_synced_, backend_synced_}).kind == WorkKind::Ensure;
}

std::optional<SteadyTime> PodController::next_wakeup() const {
    if (wakeups_.empty()) return std::nullopt;
    return wakeups_.begin()->first;
}

// ---- the local cluster
// --------------------------------------------------------------------------------------------

void PodController::on(const LocalListed& event, Times now, Intents& out) {
    local_synced_ = true;
    std::set<std::string> present;
    for (const auto& pod : event.pods) {
        const PodId id = kube::pod_id(*pod);
        if (is_mirror_pod(*pod)) continue;
        present.insert(id.uid);
        take_local(record_of(id), pod, out);
    }
    std::vector<std::string> uids;
    for (auto& [uid, record] : records_) {
        if (!present.contains(uid)) record.local = nullptr;
        uids.push_back(uid);
    }
    for (const auto& uid : uids) plan(uid, now, out);
}

void PodController::on(const LocalApplied& event, Times now, Intents& out) {
    if (is_mirror_pod(*event.pod)) return;
    const PodId id = kube::pod_id(*event.pod);
    take_local(record_of(id), event.pod, out);
    plan(id.uid, now, out);
}

void PodController::on(const LocalDeleted& event, Times now, Intents& out) {
    const PodId id = kube::pod_id(*event.pod);
    const auto found = records_.find(id.uid);
    if (found == records_.end()) return;
    found->second.last_grace = grace_of(*event.pod);
    found->second.local = nullptr;
    plan(id.uid, now, out);
}

void PodController::take_local(PodRecord& record, kube::ObjectPtr pod, Intents& out) {
    if (record.local != nullptr && version_of(*pod) < version_of(*record.local)) return;
    const bool first = record.local == nullptr;
    record.local = std::move(pod);
    record.seen_local = true;
    record.confirmed_gone = false;
    record.last_grace = grace_of(*record.local);
    // What was seen first may have been an old version, from before the pod was forwarded.
    const bool forwarded_after_all = was_forwarded(*record.local) && record.verdict.forwarded != "True";
    if (first || forwarded_after_all) admit(record, out);
}

void PodController::admit(PodRecord& record, Intents& out) {
    const Json& pod = *record.local;
    if (is_terminal_phase(string_at(pod, {"status", "phase"}))) return;
    if (was_forwarded(pod)) {
        record.verdict.forwarded = "True";
        record.verdict.forwarded_reason = "Accepted";
        record.verdict.refused.reset();
        record.excluded = false;
        return;  // it was admitted before; a rule that is new since then does not end running work
    }
    if (owned_by_daemon_set(pod)) {
        const std::string wanted = string_at(pod, {"spec", "runtimeClassName"});
        record.excluded = !(classes_ && classes_->contains(wanted));
        if (record.excluded && classes_) {
            const bool told = string_at(kube::find_condition(pod, kForwardedCondition), {"reason"}) ==
                              "DaemonSetNotForwarded";
            record.verdict.forwarded = "False";
            record.verdict.forwarded_reason = "DaemonSetNotForwarded";
            record.verdict.forwarded_message =
                "pods of DaemonSets run on this node only with a runtimeClassName of it; exclude the node by "
                "its label "
                "type=virtual-kubelet, or set a class to pay for the pod";
            if (!told) {
                out.push_back(RecordEvent{record.local, "Warning", "DaemonSetNotForwarded",
                                          record.verdict.forwarded_message});
            }
            return;
        }
    }
    if (record.excluded || record.backend) return;
    record.verdict.refused = check_(DesiredPod{record.id, pod});
    if (record.verdict.refused) {
        record.verdict.forwarded = "False";
        record.verdict.forwarded_reason = record.verdict.refused->reason;
        record.verdict.forwarded_message = record.verdict.refused->message;
        out.push_back(RecordEvent{record.local, "Warning", record.verdict.refused->reason,
                                  record.verdict.refused->message});
    }
}

void PodController::on(const ClassesListed& event, Times now, Intents& out) {
    classes_ = event.names;
    std::vector<std::string> uids;
    for (auto& [uid, record] : records_) {
        if (record.local == nullptr || !owned_by_daemon_set(*record.local)) continue;
        const bool was_excluded = record.excluded;
        record.excluded = false;
        if (was_excluded) {
            record.verdict.forwarded = "Unknown";
            record.verdict.forwarded_reason = "Forwarding";
            record.verdict.forwarded_message.clear();
        }
        admit(record, out);
        uids.push_back(uid);
    }
    for (const auto& uid : uids) plan(uid, now, out);
}

// ---- the backend
// --------------------------------------------------------------------------------------------------

void PodController::on(const BackendListed& event, Times now, Intents& out) {
    backend_synced_ = true;
    std::set<std::string> present;
    for (const ObservedPod& pod : event.pods) {
        present.insert(pod.id.uid);
        PodRecord& record = record_of(pod.id);
        take_backend(record, pod, out);
        record.stranger_lists = record.local == nullptr ? record.stranger_lists + 1 : 0;
    }
    std::vector<std::string> uids;
    for (auto& [uid, record] : records_) {
        uids.push_back(uid);
        if (present.contains(uid)) {
            record.absent_lists = 0;
        } else if (!record.accepted_at || *record.accepted_at < event.started) {
            ++record.absent_lists;
            // The list is complete, but only the backend's word about this pod alone ends it: see decide().
            if (record.backend && !record.backend->gone && record.in_flight == WorkKind::None) {
                record.in_flight = WorkKind::Observe;
                out.push_back(DoObserve{record.id});
            }
        }
    }
    for (const auto& uid : uids) plan(uid, now, out);
}

void PodController::on(const BackendChanged& event, Times now, Intents& out) {
    take_backend(record_of(event.pod.id), event.pod, out);
    plan(event.pod.id.uid, now, out);
}

void PodController::take_backend(PodRecord& record, const ObservedPod& pod, Intents& out) {
    record.backend = pod;
    record.known_absent = pod.gone;
    if (removed_by_others(record)) {
        // However its containers end now, even well: it was not done. Lost only once nothing of it can run.
        record.interrupted = record.interrupted || pod.may_be_running;
        if (record.interrupted && !pod.may_be_running) lose(record, out);
    }
    if (!pod.gone) {
        record.verdict.blocked.reset();
        record.verdict.forwarded = "True";
        record.verdict.forwarded_reason = "Accepted";
        record.verdict.forwarded_message.clear();
        for (const Json& condition : array_at(pod.status, {"conditions"})) {
            if (string_at(condition, {"type"}) == "PodScheduled" &&
                string_at(condition, {"status"}) == "False") {
                record.verdict.forwarded_reason =
                    "Remote" + string_at(condition, {"reason"}, "Unschedulable");
                record.verdict.forwarded_message = string_at(condition, {"message"});
            }
        }
        return;
    }
    if (record.local == nullptr) return;
    const bool deleting = kube::is_deleting(*record.local);
    const bool ended = is_terminal_phase(string_at(pod.status, {"phase"})) ||
                       is_terminal_phase(string_at(*record.local, {"status", "phase"}));
    if (!deleting && !ended && (was_forwarded(*record.local) || record.accepted_at)) lose(record, out);
}

void PodController::lose(PodRecord& record, Intents& out) {
    if (record.verdict.lost) return;
    const std::string message = fmt::format(
        "the pod's copy {}at provider {} was removed by somebody else; it is not run a second time under "
        "this UID",
        record.backend->backend_id.empty() ? "" : record.backend->backend_id + " ", options_.provider_name);
    record.verdict.lost = Refused{"RemotePodLost", message};
    log().warn("{}: {}", record.id, message);
    out.push_back(RecordEvent{record.local, "Warning", "RemotePodLost", message});
}

// ---- results
// ------------------------------------------------------------------------------------------------------

void PodController::on(const WorkDone& event, Times now, Intents& out) {
    const auto found = records_.find(event.id.uid);
    if (found == records_.end()) return;
    PodRecord& record = found->second;
    record.in_flight = WorkKind::None;
    std::visit([&](const auto& result) { finish(record, result, now, out); }, event.result);
    plan(event.id.uid, now, out);
}

void PodController::finish(PodRecord& record, const EnsureResult& result, Times now, Intents& out) {
    if (!result.outcome) {
        const ErrorKind kind = result.outcome.error().kind;
        if (kind == ErrorKind::Cancelled) return;  // not wanted any more, or we are ending
        if (kind == ErrorKind::Timeout || kind == ErrorKind::Unavailable) {
            ++record.unanswered_creates;
            record.late_create_until = now.now + kRequestLives;
        }
        record.verdict.forwarded_reason = "ForwardFailed";
        record.verdict.forwarded_message = result.outcome.error().message;
        back_off(record, result.outcome.error(), "ForwardFailed", now, out);
        return;
    }
    record.backoff.reset();
    if (const auto* blocked = std::get_if<Blocked>(&*result.outcome)) {
        record.verdict.blocked = *blocked;
        record.verdict.forwarded_reason = blocked->event_reason;
        record.verdict.forwarded_message = blocked->event_message;
        record.not_before = now.now + kBlockedRetry;
        if (record.local != nullptr) {
            out.push_back(
                RecordEvent{record.local, "Warning", blocked->event_reason, blocked->event_message});
        }
        return;
    }
    record.verdict.blocked.reset();
    if (const auto* refused = std::get_if<Refused>(&*result.outcome)) {
        record.verdict.refused = *refused;
        record.verdict.forwarded = "False";
        record.verdict.forwarded_reason = refused->reason;
        record.verdict.forwarded_message = refused->message;
        if (record.local != nullptr) {
            out.push_back(RecordEvent{record.local, "Warning", refused->reason, refused->message});
        }
        return;
    }
    record.accepted_at = now.now;
    record.absent_lists = 0;
    record.known_absent = false;
    record.ensured_spec = result.digest;
    // The condition turns True with the first report of the copy, in one write with what it says.
    record.verdict.forwarded_reason = "Forwarding";
    record.verdict.forwarded_message.clear();
}

void PodController::finish(PodRecord& record, const UpdateResult& result, Times now, Intents& out) {
    if (!result.outcome && is_retryable(result.outcome.error().kind)) {
        back_off(record, result.outcome.error(), "UpdateFailed", now, out);
        return;
    }
    if (!result.outcome && result.outcome.error().kind != ErrorKind::Cancelled && record.local != nullptr) {
        out.push_back(RecordEvent{record.local, "Warning", "UpdateFailed", result.outcome.error().message});
    }
    record.backoff.reset();
    record.ensured_spec = result.digest;
}

void PodController::finish(PodRecord& record, const RemoveResult& result, Times now, Intents& out) {
    if (!result.outcome) {
        back_off(record, result.outcome.error(), "RemoveFailed", now, out);
        return;
    }
    record.backoff.reset();
    record.remove_grace = result.grace;
    record.removed_at = now.now;
}

void PodController::finish(PodRecord& record, const ObserveResult& result, Times now, Intents& out) {
    if (!result.outcome) {
        back_off(record, result.outcome.error(), "ObserveFailed", now, out);
        return;
    }
    record.backoff.reset();
    ObservedPod observed = *result.outcome;
    if (observed.gone && record.backend && observed.status.empty()) observed.status = record.backend->status;
    take_backend(record, observed, out);
}

void PodController::finish(PodRecord& record, const ConfirmResult& result, Times now, Intents& out) {
    if (!result.absent) {
        back_off(record, result.absent.error(), "ConfirmFailed", now, out);
        return;
    }
    record.backoff.reset();
    record.confirmed_gone = *result.absent;
    // Still there: the watch has not delivered it yet, or the list was stale. Look again after a while.
    if (!*result.absent) record.not_before = now.now + Duration(10'000);
}

void PodController::back_off(PodRecord& record, const Error& error, const std::string& doing, Times now,
                             Intents& out) {
    if (error.kind == ErrorKind::Cancelled) return;
    Duration delay = record.backoff.next();
    if (error.retry_after) delay = std::max(delay, *error.retry_after);
    record.not_before = now.now + delay;
    log().warn("{}: {}: {}; trying again in {} ms", record.id, doing, error.message, delay.count());
    if (record.local != nullptr) out.push_back(RecordEvent{record.local, "Warning", doing, error.message});
}

void PodController::on(const StatusDone& event, Times now, Intents& out) {
    const auto found = records_.find(event.id.uid);
    if (found == records_.end()) return;
    PodRecord& record = found->second;
    record.status_in_flight = false;
    if (event.object) {
        record.status_backoff.reset();
        if (event.was_delete) {
            record.delete_done = true;
        } else if (record.local != nullptr) {
            record.intent_confirmed = intent_recorded(*event.object);
            take_local(record, std::make_shared<const Json>(*event.object), out);
            note_unkept(record, now);
        }
    } else {
        const Error& error = event.object.error();
        const bool other_pod = error.kind == ErrorKind::NotFound || error.kind == ErrorKind::Conflict;
        if (event.was_delete && other_pod) record.delete_done = true;
        Duration delay = record.status_backoff.next();
        if (error.retry_after) delay = std::max(delay, *error.retry_after);
        record.status_not_before = now.now + delay;
        if (error.kind != ErrorKind::Cancelled && !other_pod) {
            log().warn("{}: writing status: {}; trying again in {} ms", record.id, error.message,
                       delay.count());
        }
    }
    plan(event.id.uid, now, out);
}

void PodController::on(const Tick&, Times now, Intents& out) {
    while (!wakeups_.empty() && wakeups_.begin()->first <= now.now) {
        const std::string uid = wakeups_.begin()->second;
        wakeups_.erase(wakeups_.begin());
        plan(uid, now, out);
    }
}

// ---- planning
// -----------------------------------------------------------------------------------------------------

PodRecord& PodController::record_of(const PodId& id) {
    const auto [entry, added] = records_.try_emplace(id.uid);
    PodRecord& record = entry->second;
    if (!added) return record;
    record.id = id;
    if (options_.backoff_seed) {
        const auto seed =
            static_cast<std::uint32_t>(std::hash<std::string>{}(id.uid)) ^ *options_.backoff_seed;
        record.backoff = Backoff(kWorkBackoff, seed);
        record.status_backoff = Backoff(kStatusBackoff, seed);
    }
    return record;
}

void PodController::wake_at(const std::string& uid, SteadyTime when) {
    wakeups_.emplace(when, uid);
}

void PodController::plan(const std::string& uid, Times now, Intents& out) {
    const auto found = records_.find(uid);
    if (found == records_.end()) return;
    PodRecord& record = found->second;

    // Nothing on either side, and nothing in flight that could still make something.
    const bool backend_done = !record.backend || record.backend->gone;
    if (record.local == nullptr && backend_done && record.in_flight == WorkKind::None) {
        records_.erase(found);
        return;
    }
    const Work work = decide(record, {now.now, local_synced_, backend_synced_});
    switch (work.kind) {
        case WorkKind::None:
            if (work.wait_until) wake_at(uid, *work.wait_until);
            break;
        case WorkKind::Ensure:
            out.push_back(DoEnsure{record.id, record.local, created_digest(*record.local)});
            break;
        case WorkKind::Update:
            out.push_back(DoUpdate{record.id, record.local, spec_digest(*record.local)});
            break;
        case WorkKind::Remove:
            out.push_back(DoRemove{record.id, work.grace});
            break;
        case WorkKind::Observe:
            out.push_back(DoObserve{record.id});
            break;
        case WorkKind::ConfirmAbsent:
            out.push_back(DoConfirmAbsent{record.id});
            break;
    }
    if (work.kind != WorkKind::None) record.in_flight = work.kind;
    plan_status(record, now, out);
}

void PodController::plan_status(PodRecord& record, Times now, Intents& out) {
    if (record.local == nullptr || record.status_in_flight) return;
    if (now.now < record.status_not_before) {
        wake_at(record.id.uid, record.status_not_before);
        return;
    }
    if (may_finish(record)) {
        record.status_in_flight = true;
        out.push_back(DeleteLocal{record.id});
        return;
    }
    const Json& local = *record.local;
    if (is_terminal_phase(string_at(local, {"status", "phase"}))) return;
    // Before both sides are known, an absent copy proves nothing and nothing may be said about it.
    if (!backend_synced_ && !record.backend && was_forwarded(local)) return;
    if (record.excluded && !classes_) return;

    const bool again = needs_intent_again(record, {now.now, local_synced_, backend_synced_});
    Json patch = wanted_patch(record, now, again);
    if (patch.is_null() || (!again && patch == record.unkept_patch)) return;
    record.status_in_flight = true;
    record.sent_patch = patch;
    // A write that was on its way for long, or that stands on an old list, must not undo a newer one.
    const std::string version = kube::resource_version_of(local);
    if (!version.empty()) patch["metadata"]["resourceVersion"] = version;
    out.push_back(WriteStatus{record.id, std::move(patch)});
}

Json PodController::wanted_patch(const PodRecord& record, Times now, bool all_conditions) const {
    const Json& local = *record.local;
    PodVerdict verdict = record.verdict;
    std::optional<ObservedPod> observed = record.backend;
    const bool deleting = kube::is_deleting(local);
    const bool never_forwarded = !observed && !intent_recorded(local);
    if (deleting && never_forwarded && !backend_synced_) return {};
    if (deleting && (never_forwarded || (!observed && record.known_absent))) {
        // Deleted before it ever ran: terminal at once, as the kubelet does for pods deleted while Pending.
        observed = ObservedPod{record.id, Json::object(), false, true, true, ""};
        verdict.forwarded = "False";
        verdict.forwarded_reason = "DeletedBeforeForwarding";
        verdict.forwarded_message.clear();
    }
    const Json wanted = compose_status(local, observed ? &*observed : nullptr, verdict,
                                       {options_.host_ip, options_.pod_ip, now.wall});
    if (!all_conditions) return status_patch(at(local, {"status"}), wanted, record.id.uid);
    Json unsaid = at(local, {"status"});
    unsaid.erase("conditions");
    return status_patch(unsaid, wanted, record.id.uid);
}

void PodController::note_unkept(PodRecord& record, Times now) {
    Json residue = wanted_patch(record, now, false);
    record.unkept_patch =
        !residue.is_null() && patch_within(residue, record.sent_patch) ? std::move(residue) : Json();
}

// ---- views
// --------------------------------------------------------------------------------------------------------

kube::ObjectPtr PodController::find(const std::string& ns, const std::string& name) const {
    for (const auto& [uid, record] : records_) {
        if (record.local != nullptr && record.id.ns == ns && record.id.name == name) return record.local;
    }
    return nullptr;
}

std::vector<kube::ObjectPtr> PodController::list() const {
    std::vector<kube::ObjectPtr> pods;
    for (const auto& [uid, record] : records_) {
        if (record.local != nullptr) pods.push_back(record.local);
    }
    return pods;
}

PodController::Counts PodController::counts() const {
    Counts counts;
    for (const auto& [uid, record] : records_) {
        if (record.local == nullptr) {
            ++counts.orphans;
            continue;
        }
        ++counts.desired;
        if (string_at(*record.local, {"status", "phase"}) == "Running") ++counts.running;
        if (record.backoff.attempts() > 0) ++counts.retrying;
    }
    return counts;
}

}  // namespace k8sgpu::vnode
