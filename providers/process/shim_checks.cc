#include "providers/process/shim_checks.h"

#include <fmt/format.h>

#include <algorithm>

namespace k8sgpu::providers::process {
namespace {

// The attempt itself keeps to its timeout; this is for one that hangs in the kernel.
constexpr Duration kPatience{2'000};
constexpr Duration kLongestHook = std::chrono::hours(24);

std::array<std::optional<ProbeTiming>, 3> timings_of(const Json& checks) {
    std::array<std::optional<ProbeTiming>, 3> timings;
    for (const ProbeKind kind : kProbeKinds) {
        if (const Json& probe = at(checks, {field_of(kind)}); probe.is_object())
            timings[static_cast<std::size_t>(kind)] = timing_of(probe);
    }
    return timings;
}

std::optional<Handler> with_host(std::optional<Handler> handler, const std::string& address) {
    if (handler && handler->host.empty()) handler->host = address.empty() ? "127.0.0.1" : address;
    return handler;
}

}  // namespace

ShimChecks::ShimChecks(const ContainerIntent& container, SpawnRequest command, const std::string& address,
                       SteadyTime now)
    : container_(container), command_(std::move(command)), state_(timings_of(container.checks), now) {
    const Json& checks = container.checks;
    for (const ProbeKind kind : kProbeKinds) {
        const auto i = static_cast<std::size_t>(kind);
        const Json& probe = at(checks, {field_of(kind)});
        timings_[i] = timing_of(probe);
        if (probe.is_object()) probes_[i] = with_host(handler_of(probe, checks), address);
    }
    pre_stop_handler_ = with_host(handler_of(at(checks, {"lifecycle", "preStop"}), checks), address);
    if (const auto hook = with_host(handler_of(at(checks, {"lifecycle", "postStart"}), checks), address)) {
        post_start_ = attempt(*hook, kLongestHook, now);
        if (!post_start_) hooked({HandlerOutcome::Error, "no process could be started for it"});
    }
}

std::optional<ShimChecks::Attempt> ShimChecks::attempt(const Handler& handler, Duration timeout,
                                                       SteadyTime now) {
    auto child = HandlerChild::start(handler, command_, timeout);
    if (!child) return std::nullopt;
    return Attempt{std::move(*child), now + timeout + kPatience};
}

void ShimChecks::step(SteadyTime now) {
    for (const ProbeKind kind : kProbeKinds) {
        auto& under_way = attempts_[static_cast<std::size_t>(kind)];
        if (!under_way || now < under_way->until) continue;
        under_way.reset();
        decide(kind, {HandlerOutcome::Failure, "the probe does not end"});
    }
    if (hooking() || condemned_) return;
    for (const ProbeKind kind : state_.due(now)) {
        const auto i = static_cast<std::size_t>(kind);
        if (probes_[i]) attempts_[i] = attempt(*probes_[i], timings_[i].timeout, now);
        if (!attempts_[i]) decide(kind, {HandlerOutcome::Error, "no process could be started for it"});
    }
}

std::optional<SteadyTime> ShimChecks::wake_at() const {
    std::optional<SteadyTime> earliest;
    const auto consider = [&](std::optional<SteadyTime> at) {
        if (at) earliest = earliest ? std::min(*earliest, *at) : *at;
    };
    if (!hooking() && !condemned_) consider(state_.wake_at());
    for (const auto& under_way : attempts_) {
        if (under_way) consider(under_way->until);
    }
    return earliest;
}

void ShimChecks::add_to(std::vector<pollfd>& fds) const {
    const auto add = [&](const std::optional<Attempt>& under_way) {
        fds.push_back({under_way ? under_way->child.fd() : -1, POLLIN, 0});
    };
    for (const auto& under_way : attempts_) add(under_way);
    add(post_start_);
    add(pre_stop_);
}

bool ShimChecks::handle(const std::vector<pollfd>& fds, std::size_t first, SteadyTime) {
    bool decided = false;
    const auto finished = [&](std::optional<Attempt>& under_way,
                              std::size_t place) -> std::optional<HandlerResult> {
        if (!under_way || fds[first + place].revents == 0) return std::nullopt;
        auto result = under_way->child.read();
        if (result) under_way.reset();
        decided = decided || result.has_value();
        return result;
    };
    for (const ProbeKind kind : kProbeKinds) {
        const auto i = static_cast<std::size_t>(kind);
        if (const auto result = finished(attempts_[i], i)) decide(kind, *result);
    }
    if (const auto result = finished(post_start_, 3)) hooked(*result);
    if (const auto result = finished(pre_stop_, 4)) {
        stopped_ = true;
        if (result->outcome != HandlerOutcome::Success)
            events_.push_back({"Warning", "FailedPreStopHook", "PreStopHook failed"});
    }
    return decided;
}

void ShimChecks::decide(ProbeKind kind, const HandlerResult& result) {
    const bool good = result.outcome == HandlerOutcome::Success;
    if (result.outcome == HandlerOutcome::Error) {
        std::string word = name_of(kind);
        events_.push_back(
            {"Warning", "Unhealthy",
             fmt::format("{} probe errored and resulted in unknown state: {}", word, result.text)});
    } else if (!good && !stopping_) {
        events_.push_back(
            {"Warning", "Unhealthy", fmt::format("{} probe failed: {}", name_of(kind), result.text)});
    }
    state_.result(kind, good, result.outcome != HandlerOutcome::Error);
    if (!state_.failed() || condemned_ || stopping_) return;
    condemned_ = true;
    std::string word = name_of(*state_.failed());
    word[0] = static_cast<char>(word[0] - 'A' + 'a');
    Verdict verdict{{"Normal", "Killing", fmt::format("Container {} failed {} probe", container_.name, word)},
                    {}};
    const Json& grace = at(container_.checks, {field_of(*state_.failed()), "terminationGracePeriodSeconds"});
    if (grace.is_number_integer())
        verdict.grace = std::chrono::seconds(std::max<std::int64_t>(1, grace.get<std::int64_t>()));
    verdict_ = std::move(verdict);
}

void ShimChecks::hooked(const HandlerResult& result) {
    post_start_.reset();
    if (result.outcome == HandlerOutcome::Success || stopping_) return;
    events_.push_back({"Warning", "FailedPostStartHook", "PostStartHook failed"});
    condemned_ = true;
    verdict_ = Verdict{{"Normal", "Killing", "FailedPostStartHook"}, {}};
}

std::optional<ShimChecks::Verdict> ShimChecks::take_verdict() {
    return std::exchange(verdict_, std::nullopt);
}

bool ShimChecks::stop(Duration grace, SteadyTime now) {
    if (stopping_) return false;
    stopping_ = true;
    state_.stopping();
    post_start_.reset();
    if (!pre_stop_handler_ || grace <= Duration::zero()) return true;
    pre_stop_ = attempt(*pre_stop_handler_, std::min(grace, kLongestHook), now);
    return !pre_stop_;
}

bool ShimChecks::take_stopped() {
    return std::exchange(stopped_, false);
}

std::vector<PodEvent> ShimChecks::take_events() {
    return std::exchange(events_, {});
}

}  // namespace k8sgpu::providers::process
