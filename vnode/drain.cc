#include "vnode/drain.h"

#include <spdlog/fmt/fmt.h>

#include <map>
#include <optional>

#include "kube/object.h"

namespace k8sgpu::vnode {
namespace {

constexpr Duration kAskAgain{5'000};  // kubectl's pause after a PodDisruptionBudget said no
constexpr Duration kLook{1'000};
constexpr Duration kCallTimeout{30'000};

std::string full_name(const Json& pod) {
    return kube::namespace_of(pod) + "/" + kube::name_of(pod);
}

bool has_ended(const Json& pod) {
    const std::string phase = string_at(pod, {"status", "phase"});
    return phase == "Succeeded" || phase == "Failed";
}

bool has_empty_dir(const Json& pod) {
    for (const Json& volume : array_at(pod, {"spec", "volumes"})) {
        if (volume.contains("emptyDir")) return true;
    }
    return false;
}

}  // namespace

DrainPlan plan_drain(const std::vector<Json>& pods, const DrainOptions& options) {
    DrainPlan plan;
    std::map<std::string, std::vector<std::string>> refused, ignored;
    for (const Json& pod : pods) {
        const std::string name = full_name(pod);
        const std::string owner = kube::owner_kind(pod);
        if (!kube::annotation_of(pod, "kubernetes.io/config.mirror").empty()) continue;
        if (owner == "DaemonSet" && !has_ended(pod)) {
            // Evicted, it would be made again at once: DaemonSets do not mind a cordoned node.
            auto& list = options.ignore_daemonsets ? ignored : refused;
            list[options.ignore_daemonsets
                     ? "ignoring DaemonSet-managed Pods"
                     : "cannot delete DaemonSet-managed Pods (use --ignore-daemonsets to ignore)"]
                .push_back(name);
            continue;
        }
        if (!has_ended(pod)) {
            if (owner.empty() && !options.force)
                refused["cannot delete Pods that declare no controller (use --force to override)"].push_back(
                    name);
            if (owner.empty() && options.force)
                ignored["deleting Pods that declare no controller"].push_back(name);
            if (has_empty_dir(pod) && !options.delete_emptydir_data)
                refused["cannot delete Pods with local storage (use --delete-emptydir-data to override)"]
                    .push_back(name);
        }
        plan.evict.push_back(pod);
    }
    for (const auto& [words, names] : refused)
        plan.refusals.push_back(fmt::format("{}: {}", words, fmt::join(names, ", ")));
    for (const auto& [words, names] : ignored)
        plan.warnings.push_back(fmt::format("{}: {}", words, fmt::join(names, ", ")));
    return plan;
}

Result<std::vector<Json>> Drainer::pods(const CallContext& ctx) {
    kube::ListOptions query;
    query.field_selector = "spec.nodeName=" + node_name_;
    query.label_selector = options_.pod_selector;
    auto listed = client_.list_all(kube::resources::kPods, "", query, ctx.with_timeout(kCallTimeout));
    if (!listed) return fail(listed.error().with_context("listing the pods of the node"));
    return std::move(listed->items);
}

Result<void> Drainer::cordon(const CallContext& ctx) {
    const auto node = client_.get(kube::resources::kNodes, "", node_name_, ctx.with_timeout(kCallTimeout));
    if (!node) return fail(node.error());
    if (string_at(*node, {"spec", "providerID"}).find("k8sgpu://") != 0)
        return fail(ErrorKind::Invalid,
                    fmt::format("node {} is not one of k8sgpu's; use kubectl drain", node_name_));
    if (bool_at(*node, {"spec", "unschedulable"})) {
        console_.out(fmt::format("node/{} already cordoned{}", node_name_, suffix()));
        return {};
    }
    if (!options_.dry_run) {
        const Json patch = {{"spec", {{"unschedulable", true}}}};
        auto done = client_.patch(kube::resources::kNodes, "", node_name_, kube::PatchType::StrategicMerge,
                                  patch, ctx.with_timeout(kCallTimeout));
        if (!done) return fail(done.error());
    }
    console_.out(fmt::format("node/{} cordoned{}", node_name_, suffix()));
    return {};
}

Result<bool> Drainer::evict(const Json& pod, const CallContext& ctx) {
    const PodId id = kube::pod_id(pod);
    const CallContext call = ctx.with_timeout(kCallTimeout);
    if (options_.disable_eviction) {
        kube::DeleteOptions wanted{.uid = id.uid, .grace = std::nullopt};
        if (options_.grace_period >= 0) wanted.grace = std::chrono::seconds(options_.grace_period);
        const auto removed = client_.remove(kube::resources::kPods, id.ns, id.name, wanted, call);
        if (removed || removed.error().kind == ErrorKind::NotFound ||
            removed.error().kind == ErrorKind::Conflict)
            return true;
        return fail(removed.error());
    }
    Json eviction = {{"apiVersion", "policy/v1"},
                     {"kind", "Eviction"},
                     {"metadata", {{"name", id.name}, {"namespace", id.ns}}},
                     {"deleteOptions", {{"preconditions", {{"uid", id.uid}}}}}};
    if (options_.grace_period >= 0) eviction["deleteOptions"]["gracePeriodSeconds"] = options_.grace_period;
    kube::Request request;
    request.method = "POST";
    request.path = kube::resource_path(kube::resources::kPods, id.ns, id.name, "eviction");
    request.headers.emplace("content-type", "application/json");
    request.body = dump_json(eviction);
    const auto response = client_.transport().send(request, call);
    if (!response) return fail(response.error());
    if (response->status < 300 || response->status == 404) return true;
    // Another pod has that name by now, which is_gone() will see, or somebody wrote the pod meanwhile.
    if (response->status == 409) return false;
    const Error error = kube::error_from_response(response->status, response->headers, response->body);
    if (response->status != 429) return fail(error);
    console_.err(fmt::format("error when evicting pods/\"{}\" -n \"{}\" (will retry after 5s): {}", id.name,
                             id.ns, error.message));
    return false;
}

Result<bool> Drainer::is_gone(const Json& pod, const CallContext& ctx) {
    const PodId id = kube::pod_id(pod);
    const auto now = client_.get(kube::resources::kPods, id.ns, id.name, ctx.with_timeout(kCallTimeout));
    if (now) return kube::uid_of(*now) != id.uid;
    if (now.error().kind == ErrorKind::NotFound) return true;
    return fail(now.error());
}

Result<void> Drainer::run(const CallContext& ctx) {
    if (auto closed = cordon(ctx); !closed) return fail(closed.error().with_context("cordoning the node"));
    auto found = pods(ctx);
    if (!found) return fail(found.error());
    DrainPlan plan = plan_drain(*found, options_);
    if (!plan.refusals.empty())
        return fail(ErrorKind::Invalid, fmt::format("{}", fmt::join(plan.refusals, "; ")));
    for (const std::string& warning : plan.warnings) console_.err("Warning: " + warning);

    struct Waiting {
        Json pod;
        bool taken = false;
        SteadyTime next{};
    };
    std::vector<Waiting> waiting;
    for (Json& pod : plan.evict) {
        console_.out(fmt::format("evicting pod {}{}", full_name(pod), suffix()));
        if (!options_.dry_run) waiting.push_back({std::move(pod), false, {}});
    }
    while (!waiting.empty()) {
        for (Waiting& entry : waiting) {
            if (entry.taken || ctx.clock().now() < entry.next) continue;
            auto taken = evict(entry.pod, ctx);
            if (!taken && !is_retryable(taken.error().kind))
                return fail(taken.error().with_context("evicting pod " + full_name(entry.pod)));
            entry.taken = taken && *taken;
            entry.next = ctx.clock().now() + kAskAgain;
        }
        std::optional<Error> failed;
        std::erase_if(waiting, [&](const Waiting& entry) {
            const auto gone = is_gone(entry.pod, ctx);
            if (!gone && !is_retryable(gone.error().kind)) failed = gone.error();
            if (!gone || !*gone) return false;
            console_.out(fmt::format("pod/{} {}", kube::name_of(entry.pod),
                                     options_.disable_eviction ? "deleted" : "evicted"));
            return true;
        });
        if (failed) return fail(failed->with_context("waiting for a pod to go"));
        if (waiting.empty()) break;
        if (auto open = ctx.check(); !open) {
            std::vector<std::string> left;
            for (const Waiting& entry : waiting) left.push_back(full_name(entry.pod));
            return fail(ErrorKind::Timeout,
                        fmt::format("not drained within --timeout; still there: {}", fmt::join(left, ", ")));
        }
        ctx.clock().sleep_for(kLook, ctx.stop());
    }
    console_.out(fmt::format("node/{} drained{}", node_name_, suffix()));
    return {};
}

}  // namespace k8sgpu::vnode
