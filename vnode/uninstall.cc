#include "vnode/uninstall.h"

#include <spdlog/fmt/fmt.h>

#include <utility>

#include "common/encoding.h"
#include "csr/certificate_request.h"
#include "kube/object.h"

namespace k8sgpu::vnode {
namespace {

constexpr std::string_view kLeaseNamespace = "kube-node-lease";
constexpr Duration kCallTimeout{30'000};
constexpr Duration kLook{1'000};
// An agent renews every 10 s; one that fails to for twice as long is gone, or its cluster is.
constexpr Duration kLeaseSilence{22'000};

}  // namespace

Result<void> Uninstaller::run(const CallContext& ctx) {
    if (auto done = empty_node(ctx); !done) return done;
    if (options_.drain.dry_run) {
        console_.out(fmt::format("node/{} uninstalled (dry run)", options_.node_name));
        return {};
    }
    if (!options_.drain.abandon_pods) {
        if (auto done = wait_for_remote(ctx); !done) return done;
    }
    if (auto done = wait_for_agent(ctx); !done) return done;
    if (auto done = remove_node(ctx); !done) return done;
    if (auto done = remove_requests(ctx); !done) return done;
    console_.out(fmt::format("node/{} uninstalled", options_.node_name));
    return {};
}

Result<void> Uninstaller::empty_node(const CallContext& ctx) {
    const auto node =
        client_.get(kube::resources::kNodes, "", options_.node_name, ctx.with_timeout(kCallTimeout));
    if (!node && node.error().kind == ErrorKind::NotFound) {
        console_.err(
            fmt::format("Warning: node {} does not exist; removing what is left of it", options_.node_name));
        return {};
    }
    if (!node) return fail(node.error());
    if (string_at(*node, {"spec", "providerID"}).find("k8sgpu://") != 0)
        return fail(ErrorKind::Invalid, fmt::format("node {} is not one of k8sgpu's", options_.node_name));
    if (options_.drain.abandon_pods) return {};
    Drainer drainer(client_, options_.node_name, options_.drain, console_);
    const auto pods = drainer.pods(ctx);
    if (!pods) return fail(pods.error());
    if (!pods->empty() && !options_.drain.dry_run) {
        const auto renewed = is_renewed(ctx);
        if (!renewed) return fail(renewed.error());
        if (!*renewed)
            return fail(
                ErrorKind::Invalid,
                fmt::format("node {} has {} pods and no agent that could end them (nobody renews its lease): "
                            "start k8sgpu again, or leave them to the provider with --abandon-pods",
                            options_.node_name, pods->size()));
    }
    if (auto drained = drainer.run(ctx); !drained) return drained;
    if (options_.drain.dry_run) return {};
    const auto left = drainer.pods(ctx);
    if (!left) return fail(left.error());
    for (const Json& pod : *left) {
        // A DaemonSet's, ignored on wish: it was never forwarded, unless it asked for a class of ours.
        if (kube::owner_kind(pod) == "DaemonSet") continue;
        return fail(
            ErrorKind::Invalid,
            fmt::format("pod {}/{} is still on the node: it came after the drain began; run uninstall again",
                        kube::namespace_of(pod), kube::name_of(pod)));
    }
    return {};
}

Result<void> Uninstaller::wait_for_remote(const CallContext& ctx) {
    if (!leftovers_) return {};
    bool told = false;
    while (true) {
        const auto left = leftovers_(ctx.with_timeout(kCallTimeout));
        if (!left && !is_retryable(left.error().kind))
            return fail(left.error().with_context("looking at the provider"));
        if (left && left->empty()) return {};
        const std::string words =
            left ? fmt::format("still at the provider: {}", fmt::join(*left, ", ")) : left.error().message;
        if (!std::exchange(told, true))
            console_.err("waiting until nothing is left at the provider; " + words);
        if (auto open = pause(ctx, words); !open) return open;
    }
}

Result<std::optional<Json>> Uninstaller::lease(const CallContext& ctx) {
    auto found = client_.get(kube::resources::kLeases, kLeaseNamespace, options_.node_name,
                             ctx.with_timeout(kCallTimeout));
    if (found) return std::optional(std::move(*found));
    if (found.error().kind == ErrorKind::NotFound) return std::optional<Json>();
    return fail(found.error());
}

Result<bool> Uninstaller::is_renewed(const CallContext& ctx) {
    // By our own clock, so that clocks that differ do not matter.
    const auto first = lease(ctx);
    if (!first) return fail(first.error());
    if (!*first) return false;
    const SteadyTime until = ctx.clock().now() + kLeaseSilence;
    while (ctx.clock().now() < until) {
        if (auto open = pause(ctx, "the lease to be looked at"); !open) return fail(open.error());
        const auto now = lease(ctx);
        if (!now) return fail(now.error());
        if (*now && string_at(**now, {"spec", "renewTime"}) != string_at(**first, {"spec", "renewTime"}))
            return true;
    }
    return false;
}

Result<void> Uninstaller::wait_for_agent(const CallContext& ctx) {
    bool told = false;
    while (true) {
        const auto renewed = is_renewed(ctx);
        if (!renewed) return fail(renewed.error());
        if (!*renewed) return {};
        if (std::exchange(told, true)) continue;
        console_.err(
            "the agent still runs and would register the node again: stop it now, for example with\n"
            "  kubectl -n kube-system delete deployment k8sgpu-controller-manager\n"
            "waiting until the lease is no longer renewed");
    }
}

Result<void> Uninstaller::remove_node(const CallContext& ctx) {
    const CallContext call = ctx.with_timeout(kCallTimeout);
    const auto gone = [](const Result<void>& removed) {
        return removed || removed.error().kind == ErrorKind::NotFound;
    };
    // The lease first: its owner reference would have it removed later anyhow, by somebody else.
    auto removed = client_.remove(kube::resources::kLeases, kLeaseNamespace, options_.node_name, {}, call);
    if (!gone(removed)) return fail(removed.error().with_context("removing the lease"));
    if (removed) console_.out(fmt::format("lease.coordination.k8s.io/{} deleted", options_.node_name));
    removed = client_.remove(kube::resources::kNodes, "", options_.node_name, {}, call);
    if (!gone(removed)) return fail(removed.error().with_context("removing the node"));
    if (removed) console_.out(fmt::format("node/{} deleted", options_.node_name));
    return {};
}

Result<void> Uninstaller::remove_requests(const CallContext& ctx) {
    auto listed = client_.list_all(kube::resources::kCsrs, "", {}, ctx.with_timeout(kCallTimeout));
    if (!listed) return fail(listed.error().with_context("listing certificate requests"));
    const std::string common_name = csr::node_template(options_.node_name, {}).common_name;
    for (const Json& request : listed->items) {
        const std::string signer = string_at(request, {"spec", "signerName"});
        if (!signer.ends_with("/kubelet-serving") && !signer.ends_with("/app-serving")) continue;
        const auto pem = base64_decode(string_at(request, {"spec", "request"}));
        const auto info = pem ? csr::parse_request(*pem) : Result<csr::SubjectInfo>(fail(pem.error()));
        if (!info || info->common_name != common_name) continue;
        const std::string name = kube::name_of(request);
        const auto removed =
            client_.remove(kube::resources::kCsrs, "", name, {.uid = kube::uid_of(request), .grace = {}},
                           ctx.with_timeout(kCallTimeout));
        if (!removed && removed.error().kind != ErrorKind::NotFound)
            return fail(removed.error().with_context("removing certificate request " + name));
        console_.out(fmt::format("certificatesigningrequest.certificates.k8s.io/{} deleted", name));
    }
    return {};
}

Result<void> Uninstaller::pause(const CallContext& ctx, const std::string& waiting_for) {
    if (auto open = ctx.check(); !open)
        return fail(ErrorKind::Timeout, "not done within --timeout; waited for: " + waiting_for);
    ctx.clock().sleep_for(kLook, ctx.stop());
    return {};
}

}  // namespace k8sgpu::vnode
