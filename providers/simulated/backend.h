// The life of simulated pods as a function of time: no thread, no clock, no files. The provider's shell runs
// it on the real clock, the simulation of the controllers on a virtual one.
//
//   Starting ──start-after──▶ Running ──run-for──▶ Ended            (restartPolicy has the last word)
//                 ▲              │└─restart─▶ BackingOff ─┐
//                 └──────────────┼────────────────────────┘
//                              remove ─stop-after or grace─▶ Ended ─▶ gone
//
// What a pod has gone through depends only on when it was created and removed, never on when somebody looked:
// a backend that is built anew from the same facts is in the same state. Not synchronised: the owner
// serialises.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "providers/port/provider.h"
#include "providers/simulated/script.h"

namespace k8sgpu::providers::simulated {

class SimulatedBackend {
  public:
    // False, and nothing happens, when there is a trace of this UID. `pod` is the v1.Pod; `script` is what
    // read_script() made of it.
    bool create(const PodId& id, const Json& pod, const Script& script, std::string backend_id, WallTime now);
    // Orders the end; a later order can only shorten it. False when there is no trace.
    bool remove(const std::string& uid, std::chrono::seconds grace, WallTime now);
    // The trace goes at once, as with a machine that is lost. Told by the next step().
    bool vanish(const std::string& uid);

    // Lives on until `now` and returns every pod that changed since the last step, each once as it is now.
    std::vector<ObservedPod> step(WallTime now);
    // When step() will have something to tell; nullopt: not before the next order.
    std::optional<WallTime> next_change() const;

    // As of the last step or order; null when there is no trace.
    const ObservedPod* find(const std::string& uid) const;
    std::vector<ObservedPod> list() const;

    // What has to outlive a process for a pod to be taken up again where it would be by now.
    struct Facts {
        PodId id;
        Json pod;  // only what create() reads
        std::string backend_id;
        WallTime created;
        std::optional<WallTime> removed;  // first order to end
        WallTime deadline{};              // by when it has to have ended then
    };
    std::vector<Facts> facts() const;
    // As create(), with a past.
    bool restore(Facts facts, const Script& script);

  private:
    enum class Stage { Starting, Running, BackingOff, Ended };
    struct Pod {
        Facts facts;
        Script script;
        Stage stage = Stage::Starting;
        WallTime since;
        bool ready = false;
        int restarts = 0;
        int exit_code = 0;       // of the last run that ended
        bool has_ended = false;  // a run ended
        WallTime started, ended;
        bool changed = true;
        ObservedPod seen;
    };

    static std::optional<WallTime> next_of(const Pod& pod);
    // When an order to end takes effect.
    static std::optional<WallTime> stop_at(const Pod& pod);
    // Goes through what happens at `at`; false when the trace is gone with it.
    static bool pass(Pod& pod, WallTime at);
    static void end_run(Pod& pod, WallTime at, int code);
    static void show(Pod& pod);

    std::map<std::string, Pod> pods_;  // by UID
    std::vector<ObservedPod> gone_;    // not told yet
};

}  // namespace k8sgpu::providers::simulated
