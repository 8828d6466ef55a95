// What the controller knows of one pod UID, and the pure decision of what to do about it next.
//
//   desired (local object)  +  observed (backend's copy)  +  own memory  ──decide()──▶  one Work
//
// The decision never depends on which event came last: it looks at the whole record, so a lost, doubled or
// late event changes nothing but time. docs/safety.md argues why no path runs a UID twice or leaves a copy
// behind. Records belong to PodController; decide() is pure.
#pragma once

#include <optional>
#include <string>
#include <variant>

#include "common/backoff.h"
#include "common/clock.h"
#include "common/pod_id.h"
#include "kube/reflector.h"
#include "providers/port/provider.h"
#include "vnode/pod_status.h"

namespace k8sgpu::vnode {

inline constexpr BackoffPolicy kWorkBackoff{Duration(500), Duration(60'000), 2.0, 0.2};
inline constexpr BackoffPolicy kStatusBackoff{Duration(200), Duration(10'000), 2.0, 0.2};

enum class WorkKind {
    None,
    Ensure,         // make the copy exist
    Update,         // carry a changed spec to the copy
    Remove,         // end the copy
    Observe,        // ask the backend about this pod alone
    ConfirmAbsent,  // ask the local API server whether the pod is really gone
};

struct Work {
    WorkKind kind = WorkKind::None;
    std::chrono::seconds grace{0};              // Remove only
    std::optional<SteadyTime> wait_until = {};  // with None: look again then
};

struct PodRecord {
    PodId id;
    kube::ObjectPtr local;                          // null once the local cluster has no such pod
    bool seen_local = false;                        // it had one during this life of the process
    std::chrono::seconds last_grace{30};            // of the local object when last seen
    std::optional<providers::ObservedPod> backend;  // last report
    PodVerdict verdict;
    bool excluded = false;  // a DaemonSet's pod that does not ask for us: reported, never forwarded

    // Work lane: at most one call in flight.
    WorkKind in_flight = WorkKind::None;
    SteadyTime not_before{};  // back-off of the work lane
    Backoff backoff{kWorkBackoff};
    std::string ensured_spec;  // what the copy was last told to be: digest of spec, labels and annotations
    std::optional<SteadyTime> accepted_at;
    // Creates whose answer was lost may still be executed until then: an API server works a request off
    // within its own timeout. While more than one was sent, removing the copy would let a late one start the
    // pod again.
    int unanswered_creates = 0;
    SteadyTime late_create_until{};
    std::optional<std::chrono::seconds> remove_grace;  // of the last accepted Remove
    std::optional<SteadyTime> removed_at;              // when that was
    int absent_lists = 0;                              // complete backend lists in a row that had no copy
    int stranger_lists = 0;       // complete backend lists in a row with a copy that has no local pod
    bool interrupted = false;     // somebody else began to remove the copy while it could still run
    bool known_absent = false;    // the backend said, about this pod alone: no copy
    bool confirmed_gone = false;  // the local API server said, about this pod alone: gone

    // Status lane: at most one write in flight, latest wins.
    bool status_in_flight = false;
    SteadyTime status_not_before{};
    Backoff status_backoff{kStatusBackoff};
    bool intent_confirmed = false;  // an answer of the API server, to a write of this life, had the intent
    Json sent_patch;                // the last status patch; in flight or taken
    Json unkept_patch;  // what of it this API server does not keep (fields newer than it): not sent again
    bool delete_done = false;  // the final DELETE was taken; finalizers of others may keep the object
};

struct DecideFacts {
    SteadyTime now;
    bool local_synced = false;    // one complete local list was seen
    bool backend_synced = false;  // one complete backend list was seen
};

// The next thing to do for this pod on the work lane.
Work decide(const PodRecord& record, const DecideFacts& facts);

// Everything speaks for creating a copy but that the intent, which an earlier life of ours wrote, may be old
// news: it is written once more, and the answer tells whether the pod is still there and unchanged.
bool needs_intent_again(const PodRecord& record, const DecideFacts& facts);

// True when the local object may now be deleted for good: terminal in the API and surely nothing left at the
// backend.
bool may_finish(const PodRecord& record);

// The durable intent is in the API: creating a copy is allowed.
bool intent_recorded(const Json& local);

// The API says that a backend once took this pod.
bool was_forwarded(const Json& local);

// How long a pod may take to end: deletionGracePeriodSeconds, else spec.terminationGracePeriodSeconds,
// else 30.
std::chrono::seconds grace_of(const Json& local);

// Digest of what update() carries: changes of status and of bookkeeping metadata do not alter it.
std::string spec_digest(const Json& local);

// Digest of what ensure() carries: a pod is created without its ephemeral containers, so one that has some is
// updated right after.
std::string created_digest(const Json& local);

}  // namespace k8sgpu::vnode
