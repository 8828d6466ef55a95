#include "vnode/link_policy.h"

#include <algorithm>

#include "kube/object.h"

namespace k8sgpu::vnode {
namespace {

// A watch that is cut and comes back within this time is nobody's concern.
constexpr Duration kClosedAfter{10'000};
constexpr Duration kSameStateWords{60'000};
constexpr Duration kAskAgainToClose{300'000};
constexpr Duration kAskAgainToOpen{30'000};

}  // namespace

void LinkState::observe(Reach reach, const std::string& message, SteadyTime now) {
    if (reach != reach_) {
        reach_ = reach;
        since_ = now;
        told_at_ = now;
        message_ = message;
        taint_refused_ = false;
    } else if (now - told_at_ >= kSameStateWords) {
        told_at_ = now;
        message_ = message;
    }
}

void LinkState::on_taint_refused(SteadyTime now) {
    taint_refused_ = true;
    ask_again_ = now + (closed(now) ? kAskAgainToClose : kAskAgainToOpen);
}

bool LinkState::closed(SteadyTime now) const {
    return reach_ == Reach::Unreachable && now - since_ >= kClosedAfter;
}

bool LinkState::not_ready(SteadyTime now) const {
    return policy_.not_ready && reach_ == Reach::Unreachable && now - since_ >= policy_.grace;
}

std::optional<SteadyTime> LinkState::next_change(SteadyTime now) const {
    if (reach_ != Reach::Unreachable) return std::nullopt;
    std::optional<SteadyTime> next;
    if (!closed(now)) next = since_ + kClosedAfter;
    if (policy_.not_ready && !not_ready(now)) {
        const SteadyTime due = since_ + policy_.grace;
        next = next ? std::min(*next, due) : due;
    }
    return next;
}

Json LinkState::taint_patch(const Json& node, SteadyTime now) const {
    // Before the provider has spoken, a taint of our former life stays what it is.
    if ((taint_refused_ && now < ask_again_) || (reach_ != Reach::Reachable && !closed(now))) return {};
    const Json& taints = array_at(node, {"spec", "taints"});
    const auto ours = [](const Json& taint) { return string_at(taint, {"key"}) == kUnreachableTaint; };
    const bool present = std::any_of(taints.begin(), taints.end(), ours);
    if (present == closed(now)) return {};
    Json wanted = Json::array();
    for (const Json& taint : taints) {
        if (!ours(taint)) wanted.push_back(taint);
    }
    if (closed(now)) wanted.push_back({{"key", kUnreachableTaint}, {"effect", "NoSchedule"}});
    return {{"metadata", {{"resourceVersion", kube::resource_version_of(node)}}},
            {"spec", {{"taints", wanted}}}};
}

}  // namespace k8sgpu::vnode
