// Decides for every pod of one node: events in, intents out. No thread, no clock, no network: the executor
// feeds events and carries intents out, and a simulation can do the same with virtual time.
//
//   watch ────┐                                ┌─▶ work lane    ensure, update, remove, observe, confirm
//   backend ──┼─ step(event, now) ── decide ───┼─▶ status lane  patch status, final delete
//   results ──┤                                └─▶ Events
//   time ─────┘
//
// Per pod at most one work intent and one status intent are out at any time; each is answered by exactly one
// WorkDone / StatusDone. Not synchronised: the owner serialises step() and find().
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <variant>
#include <vector>

#include "providers/port/provider.h"
#include "vnode/pod_record.h"

namespace k8sgpu::vnode {

struct Times {
    SteadyTime now;
    WallTime wall;
};

// ---- events
// -------------------------------------------------------------------------------------------------------
struct LocalListed {
    std::vector<kube::ObjectPtr> pods;
};
struct LocalApplied {
    kube::ObjectPtr pod;
};
struct LocalDeleted {
    kube::ObjectPtr pod;
};
// Complete; `started` is when the list call began: what was accepted later may be missing from it.
struct BackendListed {
    std::vector<providers::ObservedPod> pods;
    SteadyTime started;
};
struct BackendChanged {
    providers::ObservedPod pod;
};
struct ClassesListed {
    std::set<std::string> names;  // RuntimeClasses of ours
};
struct EnsureResult {
    Result<providers::EnsureOutcome> outcome;
    std::string digest;  // of what was ensured
};
struct UpdateResult {
    Result<void> outcome;
    std::string digest;
};
struct RemoveResult {
    Result<void> outcome;
    std::chrono::seconds grace;
};
struct ObserveResult {
    Result<providers::ObservedPod> outcome;
};
struct ConfirmResult {
    Result<bool> absent;
};
struct WorkDone {
    PodId id;
    std::variant<EnsureResult, UpdateResult, RemoveResult, ObserveResult, ConfirmResult> result;
};
struct StatusDone {
    PodId id;
    bool was_delete = false;
    Result<Json> object;  // the object after a patch; null after a delete
};
struct Tick {};
using PodEvent = std::variant<LocalListed, LocalApplied, LocalDeleted, BackendListed, BackendChanged,
                              ClassesListed, WorkDone, StatusDone, Tick>;

// ---- intents
// ------------------------------------------------------------------------------------------------------
struct DoEnsure {
    PodId id;
    kube::ObjectPtr pod;
    std::string digest;
};
struct DoUpdate {
    PodId id;
    kube::ObjectPtr pod;
    std::string digest;
};
struct DoRemove {
    PodId id;
    std::chrono::seconds grace;
};
struct DoObserve {
    PodId id;
};
struct DoConfirmAbsent {
    PodId id;
};
struct WriteStatus {
    PodId id;
    Json patch;
};
struct DeleteLocal {
    PodId id;
};
struct RecordEvent {
    kube::ObjectPtr pod;
    std::string type;  // "Normal" | "Warning"
    std::string reason;
    std::string message;
};
using PodIntent = std::variant<DoEnsure, DoUpdate, DoRemove, DoObserve, DoConfirmAbsent, WriteStatus,
                               DeleteLocal, RecordEvent>;

struct PodControllerOptions {
    std::string node_name;
    std::string provider_name;
    std::string host_ip;
    PodIpPolicy pod_ip = PodIpPolicy::Remote;
    std::optional<std::uint32_t> backoff_seed = {};  // for runs that must repeat exactly
};

class PodController {
  public:
    // `check` is the provider's own admission (Provider::check), pure.
    using AdmissionCheck = std::function<std::optional<providers::Refused>(const providers::DesiredPod&)>;

    PodController(PodControllerOptions options, AdmissionCheck check);

    std::vector<PodIntent> step(const PodEvent& event, Times now);

    // Whether the decision for this intent would be taken again now. Between the decision and its turn on the
    // work lane an earlier attempt may have come to light, or the pod may have been deleted: ask before
    // carrying it out, and answer with Cancelled when it is not wanted any more.
    bool still_wanted(const DoEnsure& intent, SteadyTime now) const;

    // When step(Tick) is next due; nullopt while nothing waits for time.
    std::optional<SteadyTime> next_wakeup() const;

    // The pod of that name with the status that this node publishes, or null. Of two UIDs the one that still
    // is in the API.
    kube::ObjectPtr find(const std::string& ns, const std::string& name) const;
    std::vector<kube::ObjectPtr> list() const;

    struct Counts {
        std::size_t desired = 0;   // pods in the API
        std::size_t running = 0;   // phase Running
        std::size_t orphans = 0;   // copies without a local pod
        std::size_t retrying = 0;  // waiting in a back-off
    };
    Counts counts() const;
    bool synced() const { return local_synced_ && backend_synced_; }

  private:
    using Intents = std::vector<PodIntent>;

    void on(const LocalListed& event, Times now, Intents& out);
    void on(const LocalApplied& event, Times now, Intents& out);
    void on(const LocalDeleted& event, Times now, Intents& out);
    void on(const BackendListed& event, Times now, Intents& out);
    void on(const BackendChanged& event, Times now, Intents& out);
    void on(const ClassesListed& event, Times now, Intents& out);
    void on(const WorkDone& event, Times now, Intents& out);
    void on(const StatusDone& event, Times now, Intents& out);
    void on(const Tick& event, Times now, Intents& out);

    void finish(PodRecord& record, const EnsureResult& result, Times now, Intents& out);
    void finish(PodRecord& record, const UpdateResult& result, Times now, Intents& out);
    void finish(PodRecord& record, const RemoveResult& result, Times now, Intents& out);
    void finish(PodRecord& record, const ObserveResult& result, Times now, Intents& out);
    void finish(PodRecord& record, const ConfirmResult& result, Times now, Intents& out);

    PodRecord& record_of(const PodId& id);
    void take_local(PodRecord& record, kube::ObjectPtr pod, Intents& out);
    void take_backend(PodRecord& record, const providers::ObservedPod& pod, Intents& out);
    void admit(PodRecord& record, Intents& out);
    void lose(PodRecord& record, Intents& out);
    void back_off(PodRecord& record, const Error& error, const std::string& doing, Times now, Intents& out);

    // Asks decide() and the status lane; erases the record when nothing is left on either side.
    void plan(const std::string& uid, Times now, Intents& out);
    void plan_status(PodRecord& record, Times now, Intents& out);
    // The status patch that would make the API say what we know; null when it does. With `all_conditions` it
    // also repeats those that are there already.
    Json wanted_patch(const PodRecord& record, Times now, bool all_conditions) const;
    void note_unkept(PodRecord& record, Times now);
    void wake_at(const std::string& uid, SteadyTime when);

    PodControllerOptions options_;
    AdmissionCheck check_;
    bool local_synced_ = false;
    bool backend_synced_ = false;
    std::optional<std::set<std::string>> classes_;
    std::map<std::string, PodRecord> records_;  // by UID
    std::set<std::pair<SteadyTime, std::string>> wakeups_;
};

}  // namespace k8sgpu::vnode
