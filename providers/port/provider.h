// The port to whatever runs pods. vnode/ decides what should run; a provider makes it so and reports what is.
//
// The contract that keeps paid work safe:
//  * ensure() and remove() are idempotent and may be repeated after any crash, in any order of failures.
//  * At most one copy of a pod UID ever exists: the provider finds its own traces (a deterministic name, a
//  directory)
//    before it creates anything, and the trace carries the UID.
//  * list() is complete or fails. A provider that cannot reach its backend says Unavailable; it never returns
//  less.
//  * A provider never touches what does not carry our owner mark.
//
// Every method may be called from any thread, several at once, but never two for the same pod at once. Calls
// may block until their context ends. Changes are pushed through ProviderObserver and also polled slowly by
// the caller, so a lost push only costs time. Lifetime: start() once, then calls, then stop() once; the
// observer outlives the provider's threads.
#pragma once

#include <chrono>
#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "common/call_context.h"
#include "common/json.h"
#include "common/pod_id.h"

namespace k8sgpu::providers {

// A pod as the local cluster wants it: the v1.Pod object, complete, plus what identifies us to the backend.
struct DesiredPod {
    PodId id;
    Json pod;
};

// What the backend knows of one pod.
struct ObservedPod {
    PodId id;
    // v1.PodStatus as the backend sees it: phase, conditions and container statuses where it has them.
    // Translation to what this node publishes (hostIP, own conditions, monotonic counts) is vnode's work.
    Json status;
    // False once no container of the pod can be running any more.
    bool may_be_running = true;
    // True when removal was asked for, by us or by somebody else at the backend.
    bool removing = false;
    // True when the trace itself is gone; `status` then holds the last one known.
    bool gone = false;
    // The backend's own identity of the copy (remote pod UID, process group), for Events and logs.
    std::string backend_id;
};

// The pod is there, or will be without further calls.
struct Accepted {};
// Something outside is missing that may still come (a ConfigMap): nothing was created. Shown as the kubelet
// shows it, retried by the caller.
struct Blocked {
    std::string waiting_reason;               // "CreateContainerConfigError", "ContainerCreating"
    std::string waiting_message;              // `configmap "x" not found`; empty for ContainerCreating
    std::vector<std::string> containers;      // which ones wait so; empty = all
    std::string event_reason, event_message;  // "Failed", `Error: configmap "x" not found`
};
// It can never run here: nothing was created. The pod becomes Failed with this reason.
struct Refused {
    std::string reason;   // CamelCase, the kubelet's where it has one ("UnexpectedAdmissionError")
    std::string message;  // names the field, the value and the way out
};
using EnsureOutcome = std::variant<Accepted, Blocked, Refused>;

class ProviderObserver {
  public:
    virtual ~ProviderObserver() = default;
    // The pod's state changed, or its trace is gone. Latest wins; must not block.
    virtual void on_pod_changed(const ObservedPod& pod) = 0;
    // Something worth an Event on the pod ("Warning"/"Normal").
    virtual void on_pod_event(const PodId& pod, const std::string& type, const std::string& reason,
                              const std::string& message) = 0;
    // The backend became (un)reachable; `message` says why. Repeats are harmless.
    virtual void on_reachable_changed(bool reachable, const std::string& message) = 0;
};

class LogSource;
class Executor;
class Attacher;
class PortForwarder;
class StatsSource;

class Provider {
  public:
    virtual ~Provider() = default;

    virtual std::string name() const = 0;  // "kubernetes", "process"

    // Starts watching the backend. Fails only for what no time heals (bad options); an unreachable backend is
    // reported through the observer.
    virtual Result<void> start(ProviderObserver& observer) = 0;
    virtual void stop() = 0;

    // Refuses what can never run, from the object alone, before anything is created. Pure and quick.
    virtual std::optional<Refused> check(const DesiredPod& pod) const = 0;

    // Makes the pod exist at the backend. Retryable errors are retried by the caller with back-off.
    virtual Result<EnsureOutcome> ensure(const DesiredPod& pod, const CallContext& ctx) = 0;

    // Carries changes of a running pod (image, labels, annotations, activeDeadlineSeconds) to the backend.
    virtual Result<void> update(const DesiredPod& pod, const CallContext& ctx) = 0;

    // Ends the pod with this grace; returns once the backend has taken the order, not when the pod has ended.
    // A later call with less grace shortens it; zero kills. Removing what is not there succeeds, and is
    // followed by a push with gone = true.
    virtual Result<void> remove(const PodId& pod, std::chrono::seconds grace, const CallContext& ctx) = 0;

    // One pod as it is now; gone = true when the backend surely has none.
    virtual Result<ObservedPod> observe(const PodId& pod, const CallContext& ctx) = 0;

    // Everything that carries our owner mark, complete.
    virtual Result<std::vector<ObservedPod>> list(const CallContext& ctx) = 0;

    // What the backend offers: resource name → quantity ("cpu": "64", "nvidia.com/gpu": "8").
    virtual Result<std::map<std::string, std::string>> capacity(const CallContext& ctx) = 0;

    // Optional abilities; null means that the API answers "not supported" before upgrading anything.
    virtual LogSource* logs() { return nullptr; }
    virtual Executor* executor() { return nullptr; }
    virtual Attacher* attacher() { return nullptr; }
    virtual PortForwarder* port_forwarder() { return nullptr; }
    virtual StatsSource* stats() { return nullptr; }
};

}  // namespace k8sgpu::providers
