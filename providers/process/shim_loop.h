// The shim's poll loop: carries out what Machine decides and tells it what happened. Single-threaded; run()
// returns when the pod has ended and status.json says so.
#pragma once

#include <map>
#include <memory>
#include <vector>

#include "providers/process/attach_server.h"
#include "providers/process/machine.h"
#include "providers/process/paths.h"
#include "providers/process/report.h"
#include "providers/process/shim_checks.h"
#include "providers/process/shim_container.h"

namespace k8sgpu::providers::process {

class ShimLoop {
  public:
    ShimLoop(PodPaths paths, PodIntent intent);
    ~ShimLoop();

    // Signals, the watch on the directory, the first status. Before anything runs.
    Result<void> prepare();
    void run();

  private:
    static Times now();
    void take_orders();
    void perform(const Action& action);
    void start(const StartContainer& action);
    bool wait();  // false when nothing but output came
    void step_checks();
    void tell(const PodEvent& event);
    void take_signals();
    void reap();
    void finish_containers();
    void kill_stragglers();
    bool publish(bool ended);
    ShimContainer* find(std::size_t index);
    ShimContainer* find(std::string_view name);
    void retry_in(Duration delay);

    const PodPaths paths_;
    const PodIntent intent_;
    Machine machine_;
    std::vector<std::unique_ptr<ShimContainer>> containers_;  // running, or ended with something left behind
    AttachServer attach_;
    std::map<std::size_t, ShimChecks> checks_;  // of running containers that have any, by index
    std::vector<ShimEvent> events_;             // the latest
    std::int64_t next_event_ = 1;
    // When an event was last told, so that a probe that keeps failing does not write the status each time.
    std::map<std::string, SteadyTime> told_;
    int signals_ = -1, watch_ = -1;
    Report published_;
    bool any_published_ = false, failed_to_publish_ = false;
    Duration leftover_delay_{20};
    std::optional<SteadyTime> retry_at_;  // look at leftovers, or write the status, again
};

}  // namespace k8sgpu::providers::process
