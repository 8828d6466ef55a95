#include "providers/kubernetes/stats.h"

#include <fmt/format.h>

#include "common/encoding.h"
#include "common/log.h"
#include "common/scope_exit.h"
#include "kube/object.h"

namespace k8sgpu::providers::kubernetes {

namespace {

constexpr kube::Resource kPodMetrics{"metrics.k8s.io", "v1beta1", "pods"};
constexpr Duration kFresh{5'000};
constexpr Duration kUsable{60'000};  // while somebody else reads
constexpr Duration kAskAgain{300'000};
constexpr Duration kOneNode{4'000};

// Time does not change these soon: an API that is not served, a Role without the rule.
bool lasting(const Error& error) {
    return error.kind == ErrorKind::NotFound || error.kind == ErrorKind::Forbidden;
}

Unexpected not_measurable(const Error& why) {
    return fail(ErrorKind::Unsupported, "the remote cluster lets us measure nothing: " + why.message);
}

}  // namespace

Result<StatsReport> RemoteStats::stats(const CallContext& ctx) {
    {
        auto state = state_.lock();
        while (true) {
            const SteadyTime now = ctx.clock().now();
            const Duration limit = state->refreshing ? kUsable : kFresh;
            if (state->last && now - state->taken < limit) return *state->last;
            if (!state->refreshing) break;
            const bool done = state.wait_until(ctx.clock(), changed_, ctx.deadline(), ctx.stop(),
                                               [&] { return !state->refreshing; });
            if (!done)
                return fail(ErrorKind::Timeout, "another caller is still reading the remote cluster's stats");
        }
        state->refreshing = true;
    }
    std::optional<Result<StatsReport>> report;
    const ScopeExit publish([&] {
        auto state = state_.lock();
        state->refreshing = false;
        // A caller that gave up says nothing about the remote cluster.
        const bool own = report && !*report && report->error().kind == ErrorKind::Cancelled;
        if (report && !own) {
            state->last = *report;
            state->taken = ctx.clock().now();
        }
        changed_.notify_all();
    });
    report = read(ctx);
    return *report;
}

Result<StatsReport> RemoteStats::read(const CallContext& ctx) {
    const SteadyTime now = ctx.clock().now();
    std::optional<Error> first;
    if (now >= sources_.ask_metrics_api) {
        auto report = from_metrics_api(ctx);
        if (report) return report;
        first = report.error();
        if (lasting(*first)) sources_.ask_metrics_api = now + kAskAgain;
    }
    if (now < sources_.ask_nodes) {
        if (first && !lasting(*first)) return fail(*first);
        return not_measurable(first.value_or(Error{ErrorKind::Forbidden, "see earlier warnings", {}, {}}));
    }
    auto report = from_nodes(ctx);
    if (report || !lasting(report.error())) return report;
    sources_.ask_nodes = now + kAskAgain;
    if (first && !lasting(*first)) return fail(*first);
    if (!std::exchange(sources_.said_absent, true))
        log().info(
            "no stats of forwarded pods: metrics.k8s.io of the remote cluster is not served or not allowed "
            "({}), nor are the summaries of its nodes ({}); see the optional rules of "
            "manifests/tenant-role.yaml",
            first ? first->message : "asked before", report.error().message);
    return not_measurable(report.error());
}

Result<StatsReport> RemoteStats::from_metrics_api(const CallContext& ctx) {
    // Not by ApiClient::list(): these objects are nowhere stored, and their list has no resourceVersion.
    auto list = remote_.get_path(
        kube::resource_path(kPodMetrics, namespace_) + "?labelSelector=" + url_encode(mark_selector(owner_)),
        ctx);
    if (!list) return fail(list.error().with_context("reading metrics.k8s.io"));
    if (!string_at(*list, {"kind"}).ends_with("List"))
        return fail(ErrorKind::Protocol, "reading metrics.k8s.io: the answer is not a list");
    StatsReport report;
    for (const Json& item : array_at(*list, {"items"})) {
        const auto id = pods_.owner_of_name(kube::name_of(item));
        const auto pod = id ? pods_.find(id->uid) : std::nullopt;
        if (!pod) continue;
        if (auto stats = from_pod_metrics(item, *pod, sources_.counters))
            report.pods.push_back(std::move(*stats));
    }
    sources_.counters.forget_before(ctx.clock().wall_now() - std::chrono::hours(1));
    return report;
}

Result<StatsReport> RemoteStats::from_nodes(const CallContext& ctx) {
    std::map<std::string, std::map<std::string, RemotePod>> by_node;
    for (RemotePod& pod : pods_.all()) {
        const std::string node = string_at(*pod.object, {"spec", "nodeName"});
        const std::string uid = kube::uid_of(*pod.object);
        if (!node.empty()) by_node[node].emplace(uid, std::move(pod));
    }
    // Whether nodes would answer is known only once there is one to ask.
    if (by_node.empty() && !sources_.nodes_answered)
        return fail(ErrorKind::Unsupported, "no pod of ours is on a remote node yet");
    StatsReport report;
    std::optional<Error> failure;
    bool any = by_node.empty();
    for (const auto& [node, pods] : by_node) {
        auto summary = remote_.get_path(fmt::format("/api/v1/nodes/{}/proxy/stats/summary", url_encode(node)),
                                        ctx.with_timeout(kOneNode));
        if (!summary) {
            failure = summary.error().with_context("reading the summary of remote node " + node);
            if (lasting(*failure) || !ctx.check()) break;
            log().debug("{}", failure->message);
            continue;
        }
        any = sources_.nodes_answered = true;
        for (PodStats& stats : from_summary(*summary, pods)) report.pods.push_back(std::move(stats));
    }
    if (!any && failure) return fail(*failure);
    return report;
}

}  // namespace k8sgpu::providers::kubernetes
