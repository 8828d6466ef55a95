#include "common/task_pool.h"

#include <utility>

namespace k8sgpu {

TaskPool::TaskPool(Clock& clock, const std::string& name, std::size_t threads) : clock_(clock) {
    for (std::size_t i = 0; i < threads; ++i) {
        threads_.emplace_back(name + "-" + std::to_string(i),
                              [this](std::stop_token stop) { work(std::move(stop)); });
    }
}

void TaskPool::add(Task task) {
    {
        auto state = state_.lock();
        if (state->stopped) return;
        state->tasks.push_back(std::move(task));
    }
    changed_.notify_one();
}

void TaskPool::stop() {
    {
        auto state = state_.lock();
        state->stopped = true;
        state->tasks.clear();
    }
    for (auto& thread : threads_) thread.request_stop();
    changed_.notify_all();
    for (auto& thread : threads_) thread.join();
}

bool TaskPool::wait_idle(SteadyTime until) {
    auto state = state_.lock();
    return state.wait_until(clock_, idle_, until, {},
                            [&] { return state->tasks.empty() && state->running == 0; });
}

void TaskPool::work(std::stop_token stop) {
    while (true) {
        Task task;
        {
            auto state = state_.lock();
            const bool ready = state.wait_until(clock_, changed_, SteadyTime::max(), stop,
                                                [&] { return !state->tasks.empty(); });
            if (!ready || stop.stop_requested()) return;
            task = std::move(state->tasks.front());
            state->tasks.pop_front();
            ++state->running;
        }
        task(stop);
        {
            auto state = state_.lock();
            --state->running;
        }
        idle_.notify_all();
    }
}

}  // namespace k8sgpu
