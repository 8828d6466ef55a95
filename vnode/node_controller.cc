#include "vnode/node_controller.h"

#include <algorithm>
#include <charconv>

#include "common/log.h"

namespace k8sgpu::vnode {
namespace {

constexpr Duration kCheckEvery{10'000};    // the kubelet's nodeStatusUpdateFrequency
constexpr Duration kReportEvery{300'000};  // and its nodeStatusReportFrequency

}  // namespace

NodeController::NodeController(NodeConfig config, std::uint32_t seed, InUse in_use)
    : config_(std::move(config)),
      in_use_(std::move(in_use)),
      backoff_({Duration(100), Duration(7'000), 2.0, 0.1}, seed) {}

LinkReport NodeController::link_report(SteadyTime now) const {
    LinkReport report{link_.reach(), link_.message(), !link_.not_ready(now), std::nullopt};
    if (in_use_ && link_.holds_back(now)) report.in_use = in_use_();
    return report;
}

std::optional<NodeCall> NodeController::next(Times now) {
    link_.set_policy(facts_.link_policy);
    link_.observe(facts_.provider, facts_.provider_message, now.now);
    if (now.now < not_before_) {
        wakeup_ = not_before_;
        return std::nullopt;
    }
    switch (state_) {
        case State::Unknown:
            return FetchNode{};
        case State::Absent:
            return CreateNode{build_node(config_, facts_, link_report(now.now), now.wall)};
        case State::Present:
            break;
    }
    const std::string provider_id = string_at(*node_, {"spec", "providerID"});
    if (!provider_id.empty() && !provider_id.starts_with("k8sgpu://")) {
        problem_ = fmt::format(
            "node {} exists and belongs to {}; choose another --node-name, or delete that Node if it is a "
            "leftover",
            config_.name, provider_id);
        not_before_ = now.now + kCheckEvery;
        wakeup_ = not_before_;
        return std::nullopt;
    }
    problem_.clear();
    if (Json patch = node_metadata_patch(config_, *node_); !patch.is_null())
        return PatchNode{std::move(patch), ""};
    if (Json patch = link_.taint_patch(*node_, now.now); !patch.is_null())
        return PatchNode{std::move(patch), "", /*taints=*/true};
    const Json& status = object_at(*node_, {"status"});
    const Json wanted = build_node_status(config_, facts_, link_report(now.now), status, now.wall);
    if (Json patch = node_status_patch(status, wanted, now.now >= next_report_); !patch.is_null()) {
        return PatchNode{std::move(patch), "status"};
    }
    next_check_ = now.now + kCheckEvery;
    wakeup_ = std::min(next_check_, next_report_);
    if (const auto due = link_.next_change(now.now)) wakeup_ = std::min(wakeup_, *due);
    return std::nullopt;
}

void NodeController::on_node(kube::ObjectPtr node) {
    const auto version = [](const Json& object) {
        const std::string text = string_at(object, {"metadata", "resourceVersion"});
        std::uint64_t number = 0;
        std::from_chars(text.data(), text.data() + text.size(), number);
        return number;
    };
    const bool same_object =
        node_ != nullptr && string_at(*node_, {"metadata", "uid"}) == string_at(*node, {"metadata", "uid"});
    if (same_object && version(*node) < version(*node_)) return;
    node_ = std::move(node);
    state_ = State::Present;
}

void NodeController::on_absent() {
    if (state_ == State::Present) log().warn("node {} was deleted; registering it again", config_.name);
    node_ = nullptr;
    state_ = State::Absent;
    not_before_ = {};
}

void NodeController::on_succeeded(const NodeCall& call, Times now) {
    backoff_.reset();
    if (std::holds_alternative<CreateNode>(call)) log().info("registered node {}", config_.name);
    const auto* patch = std::get_if<PatchNode>(&call);
    if (std::holds_alternative<CreateNode>(call) || (patch != nullptr && patch->subresource == "status")) {
        next_report_ = now.now + kReportEvery;
    }
    // What an API server does not keep would be sent again at once: leave at least a moment between two
    // writes.
    if (patch != nullptr && patch->taints) link_.on_taint_written();
    if (patch != nullptr) not_before_ = now.now + Duration(500);
}

void NodeController::on_failed(const NodeCall& call, const Error& error, Times now) {
    const bool creating = std::holds_alternative<CreateNode>(call);
    if (creating && error.kind == ErrorKind::AlreadyExists) {
        state_ = State::Unknown;
        return;
    }
    if (error.kind == ErrorKind::NotFound) {
        on_absent();
        return;
    }
    if (creating && error.kind == ErrorKind::Forbidden)
        state_ = State::Unknown;  // an administrator may have made it
    const auto* patch = std::get_if<PatchNode>(&call);
    if (patch != nullptr && patch->taints && error.kind == ErrorKind::Forbidden) {
        const bool told = link_.holds_back(now.now);
        link_.on_taint_refused(now.now);
        if (told) return;
        log().info(
            "this identity may not change the taints of node {}: while the provider is unreachable, its "
            "allocatable falls to what its pods use",
            config_.name);
        return;
    }
    if (error.kind == ErrorKind::Conflict) state_ = State::Unknown;  // somebody wrote it: look first
    problem_ =
        fmt::format("{} node {}: {}", creating ? "registering" : "keeping", config_.name, error.message);
    Duration delay = backoff_.next();
    if (error.retry_after) delay = std::max(delay, *error.retry_after);
    not_before_ = now.now + delay;
}

std::string NodeController::node_uid() const {
    return node_ == nullptr ? "" : string_at(*node_, {"metadata", "uid"});
}

}  // namespace k8sgpu::vnode
