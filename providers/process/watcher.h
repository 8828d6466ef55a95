// The thread "prov-process": sees changes of pods (inotify on status.json, a pidfd per shim) and is the only
// caller of the observer, so reports of one pod never overtake each other. It also cleans up after dead
// shims, removes traces whose time is over and reaps hung-up exec processes. Owned by ProcessProvider.
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "common/guarded.h"
#include "common/thread.h"
#include "providers/port/provider.h"
#include "providers/process/pod_events.h"
#include "providers/process/pod_store.h"

namespace k8sgpu::providers::process {

// Nothing of the pod has run and nothing will without another ensure().
bool is_absent(const PodTrace& trace);

// What the port says about a trace. Absent → gone.
ObservedPod observed_from(const PodTrace& trace);

// inspect(), and bury() when the shim has died. A pod that cannot be buried yet stays Died.
Result<PodTrace> settle(const PodStore& store, const std::string& uid, WallTime now);

class Watcher {
  public:
    // `store` and `clock` outlive it. `linger`: how long an ended pod that was ordered to go stays,
    // from when it is first seen so.
    Watcher(const PodStore& store, Clock& clock, Duration linger);
    ~Watcher();

    Result<void> start(ProviderObserver& observer, std::vector<std::string> uids);
    void stop();  // idempotent

    // From any thread: look at this pod (again), and watch it from now on.
    void touch(const std::string& uid);
    // Reports that the trace is gone; `pod.status` is the last one known.
    void report_gone(ObservedPod pod);
    // An Event of the agent's own on the pod.
    void tell(const PodId& pod, const PodEvent& event);
    // Reaps this child when it ends.
    void adopt(pid_t child);

  private:
    struct Entry {
        int watch = -1;
        int pidfd = -1;
        Stage stage = Stage::Absent;
        bool lingers = false;
        SteadyTime lingers_until{};
        bool seen = false;  // `last` was reported
        ObservedPod last;
        std::int64_t last_event = 0;  // of the shim's own
    };
    struct Inbox {
        std::set<std::string> touched;
        std::vector<ObservedPod> gone;
        std::vector<pid_t> children;
        std::vector<std::pair<PodId, PodEvent>> events;
    };

    void run(const std::stop_token& stop);
    void wake() const;
    void take_inbox();
    void look(const std::string& uid);
    void report(Entry& entry, const PodTrace& trace);
    void follow_shim(Entry& entry, const PodTrace& trace);
    void sweep();
    void drop(const std::string& uid);
    void wait();
    void read_events();
    int timeout_ms() const;

    const PodStore& store_;
    Clock& clock_;
    const Duration linger_;
    ProviderObserver* observer_ = nullptr;
    int wake_ = -1, events_ = -1;
    Guarded<Inbox> inbox_;
    // Below: the thread's own.
    std::map<std::string, Entry> entries_;
    std::set<std::string> dirty_;
    std::vector<pid_t> children_;
    SteadyTime next_round_{};  // when every running pod is looked at, whatever inotify says
    Thread thread_;
};

}  // namespace k8sgpu::providers::process
