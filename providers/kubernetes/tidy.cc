#include "providers/kubernetes/tidy.h"

#include <algorithm>
#include <vector>

#include "common/log.h"

namespace k8sgpu::providers::kubernetes {

void Tidy::start() {
    state_.lock()->collect_due = clock_.now() + options_.collect_after;
    thread_ = Thread("remote-tidy", [this](std::stop_token stop) { run(std::move(stop)); });
}

void Tidy::request_verify(RemotePod pod) {
    {
        auto state = state_.lock();
        std::string uid = pod.id.uid;
        state->unclear.insert_or_assign(std::move(uid), Pending{std::move(pod), clock_.now()});
        state->poked = true;
    }
    poked_.notify_all();
}

void Tidy::request_collect() {
    {
        auto state = state_.lock();
        state->collect_due = std::min(state->collect_due, clock_.now() + options_.collect_after);
        state->poked = true;
    }
    poked_.notify_all();
}

SteadyTime Tidy::next_due(const State& state) const {
    SteadyTime due = state.collect_due;
    for (const auto& [uid, pending] : state.unclear) due = std::min(due, pending.due);
    return due;
}

void Tidy::run(std::stop_token stop) {
    while (!stop.stop_requested()) {
        {
            auto state = state_.lock();
            const SteadyTime until = next_due(*state);
            state.wait_until(clock_, poked_, until, stop, [&] { return state->poked; });
            state->poked = false;
        }
        verify_due(stop);
        collect_due(stop);
    }
}

void Tidy::verify_due(const std::stop_token& stop) {
    std::vector<RemotePod> due;
    {
        auto state = state_.lock();
        for (auto& [uid, pending] : state->unclear) {
            if (pending.due > clock_.now()) continue;
            due.push_back(pending.pod);
            pending.due = clock_.now() + options_.verify_again;
        }
    }
    for (const RemotePod& pod : due) {
        if (stop.stop_requested()) return;
        const auto settled = verify_(pod, CallContext::with_timeout(clock_, options_.call_timeout, stop));
        if (!settled)
            log().debug("{}: asking what became of the remote pod: {}", pod.id, settled.error().message);
        if (settled && *settled) state_.lock()->unclear.erase(pod.id.uid);
    }
}

void Tidy::collect_due(const std::stop_token& stop) {
    if (stop.stop_requested() || clock_.now() < state_.lock()->collect_due) return;
    state_.lock()->collect_due = clock_.now() + options_.collect_every;
    const auto collected = collect_(CallContext::with_timeout(clock_, options_.call_timeout, stop));
    if (collected) return;
    // That the remote cluster is away is told elsewhere, once.
    if (!is_retryable(collected.error().kind) && collected.error().kind != ErrorKind::Cancelled) {
        log().warn("collecting unused copies of ConfigMaps and Secrets: {}", collected.error().message);
    }
    auto state = state_.lock();
    state->collect_due = std::min(state->collect_due, clock_.now() + options_.verify_again);
}

}  // namespace k8sgpu::providers::kubernetes
