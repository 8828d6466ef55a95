// A fixed number of named threads that take tasks in order. The queue is unbounded: whoever adds keeps it
// bounded by having at most one task per pod (see vnode/pod_controller.h).
//
// add() from any thread, also from a task. stop() (or destruction) asks running tasks through their token,
// drops the rest and joins.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <string>
#include <vector>

#include "common/clock.h"
#include "common/guarded.h"
#include "common/thread.h"

namespace k8sgpu {

class TaskPool {
  public:
    using Task = std::function<void(std::stop_token)>;

    // Threads are named "<name>-<n>".
    TaskPool(Clock& clock, const std::string& name, std::size_t threads);
    ~TaskPool() { stop(); }

    // Ignored after stop().
    void add(Task task);
    void stop();
    // Until nothing is queued or running, tasks that tasks have added included; false at `until`. Wants an
    // owner who has stopped the other sources of tasks.
    bool wait_idle(SteadyTime until);
    std::size_t queued() const { return state_.lock()->tasks.size(); }

  private:
    struct State {
        std::deque<Task> tasks;
        std::size_t running = 0;
        bool stopped = false;
    };
    void work(std::stop_token stop);

    Clock& clock_;
    Guarded<State> state_;
    std::condition_variable_any changed_;
    std::condition_variable_any idle_;
    std::vector<Thread> threads_;
};

}  // namespace k8sgpu
