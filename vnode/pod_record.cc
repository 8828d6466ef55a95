#include "vnode/pod_record.h"

#include <algorithm>

#include "common/encoding.h"
#include "kube/object.h"

namespace k8sgpu::vnode {
namespace {

// A copy that nobody asked for is removed only after this many complete lists agree.
constexpr int kListsBeforeSweep = 2;
// A Remove that was taken but has not ended the copy is repeated this long after its grace.
constexpr Duration kRemoveRepeat{15'000};

Work wait(SteadyTime until) {
    return {WorkKind::None, {}, until};
}

bool copy_exists(const PodRecord& record) {
    return record.backend && !record.backend->gone;
}

// A copy ought to be made, or to be looked for first; nothing is said about the intent yet.
bool wants_copy(const PodRecord& record, const DecideFacts& facts) {
    const Json& local = *record.local;
    if (kube::is_deleting(local) || is_terminal_phase(string_at(local, {"status", "phase"}))) return false;
    if (record.excluded || record.verdict.refused || record.verdict.lost) return false;
    return !record.backend && facts.backend_synced;
}

bool was_there(const PodRecord& record) {
    return was_forwarded(*record.local) || record.accepted_at;
}

// The backend surely has no copy: it said so about this pod, or pushed the end of the trace.
bool copy_absent(const PodRecord& record) {
    return record.known_absent || (record.backend && record.backend->gone);
}

// Nothing of it can run any more and the backend has our order to remove the rest: good enough to let the
// local object go, and nothing is left to do here.
bool copy_over(const PodRecord& record) {
    return copy_absent(record) ||
           (record.backend && record.backend->removing && !record.backend->may_be_running);
}

Work remove(const PodRecord& record, std::chrono::seconds grace, const DecideFacts& facts) {
    const bool another_may_come =
        record.unanswered_creates > 1 || (record.unanswered_creates == 1 && record.accepted_at);
    if (another_may_come && facts.now < record.late_create_until) return wait(record.late_create_until);
    if (record.remove_grace && grace >= *record.remove_grace) {
        const SteadyTime repeat_at = *record.removed_at + *record.remove_grace + kRemoveRepeat;
        if (facts.now < repeat_at) return wait(repeat_at);
    }
    return {WorkKind::Remove, grace, {}};
}

std::string digest_of(const Json& spec, const Json& local) {
    const Json carried = {spec, at(local, {"metadata", "labels"}), at(local, {"metadata", "annotations"})};
    return sha256(dump_json(carried));
}

Work decide_gone(const PodRecord& record, const DecideFacts& facts) {
    if (!facts.local_synced || copy_over(record) || !record.backend) return {};
    if (!record.seen_local && record.stranger_lists < kListsBeforeSweep)
        return {};  // the next sweep counts again
    if (!record.confirmed_gone) return {WorkKind::ConfirmAbsent, {}, {}};
    return remove(record, record.last_grace, facts);
}

}  // namespace

Work decide(const PodRecord& record, const DecideFacts& facts) {
    if (record.in_flight != WorkKind::None) return {};
    if (facts.now < record.not_before) return wait(record.not_before);
    if (record.local == nullptr) return decide_gone(record, facts);

    const Json& local = *record.local;
    const bool deleting = kube::is_deleting(local);
    const bool terminal = is_terminal_phase(string_at(local, {"status", "phase"}));

    if (deleting || terminal) {
        if (copy_over(record)) return {};
        if (terminal && !deleting && !(copy_exists(record) && record.backend->may_be_running)) return {};
        // Never forwarded, by us or by a life of ours before: there is nothing to ask the backend about.
        // Before the first complete list of the backend that is not sure yet, and it waits.
        if (!intent_recorded(local) && !record.backend) return {};
        return remove(record, grace_of(local), facts);
    }
    if (record.excluded || record.verdict.refused || record.verdict.lost) return {};
    if (copy_exists(record)) {
        // An adopted copy has no digest yet: what changed while nobody watched is carried over now.
        if (record.ensured_spec != spec_digest(local)) return {WorkKind::Update, {}, {}};
        return {};
    }
    if (!wants_copy(record, facts)) return {};  // if it is gone, the controller has made it a verdict
    if (was_there(record)) {
        // It was there once. Ask about it alone before calling it lost.
        if (record.known_absent || (record.accepted_at && record.absent_lists == 0)) return {};
        return {WorkKind::Observe, {}, {}};
    }
    // The status lane writes it first. One that is only read, in a list or by an earlier life, may be old.
    if (!intent_recorded(local) || !record.intent_confirmed) return {};
    return {WorkKind::Ensure, {}, {}};
}

bool needs_intent_again(const PodRecord& record, const DecideFacts& facts) {
    return record.local != nullptr && record.in_flight == WorkKind::None && !record.intent_confirmed &&
           wants_copy(record, facts) && !was_there(record) && intent_recorded(*record.local);
}

bool may_finish(const PodRecord& record) {
    if (record.local == nullptr || record.delete_done) return false;
    const Json& local = *record.local;
    if (!kube::is_deleting(local)) return false;
    if (!is_terminal_phase(string_at(local, {"status", "phase"}))) return false;
    return copy_over(record) || (!record.backend && !intent_recorded(local));
}

bool intent_recorded(const Json& local) {
    const std::string status = string_at(kube::find_condition(local, kForwardedCondition), {"status"});
    return status == "Unknown" || status == "True";
}

bool was_forwarded(const Json& local) {
    return kube::condition_is_true(local, kForwardedCondition);
}

std::chrono::seconds grace_of(const Json& local) {
    const auto from_spec = int_at(local, {"spec", "terminationGracePeriodSeconds"}, 30);
    const auto seconds = int_at(local, {"metadata", "deletionGracePeriodSeconds"}, from_spec);
    return std::chrono::seconds(std::max<std::int64_t>(0, seconds));
}

std::string spec_digest(const Json& local) {
    return digest_of(at(local, {"spec"}), local);
}

std::string created_digest(const Json& local) {
    Json spec = at(local, {"spec"});
    if (spec.is_object()) spec.erase("ephemeralContainers");
    return digest_of(spec, local);
}

}  // namespace k8sgpu::vnode
