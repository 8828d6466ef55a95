#include "providers/kubernetes/running_changes.h"

#include <fmt/format.h>

#include "kube/object.h"
#include "providers/kubernetes/update.h"

namespace k8sgpu::providers::kubernetes {

Result<void> RunningChanges::update(const DesiredPod& desired, const CallContext& ctx) {
    auto remote = calls_.read(desired.id, ctx);
    if (!remote) return fail(remote.error());
    const Json wanted = translate(desired, options_).pod;
    // The retryable first: it must not hide behind an error that no repetition heals.
    std::optional<Error> first;
    for (const Result<void>& done : {send(*remote, update_patch(*remote, wanted), "", ctx),
                                     send(*remote, resize_patch(*remote, wanted), "resize", ctx),
                                     add_ephemeral(desired, *remote, ctx)}) {
        if (!done && (!first || (is_retryable(done.error().kind) && !is_retryable(first->kind)))) {
            first = done.error();
        }
    }
    if (first) return fail(std::move(*first));
    return {};
}

Result<void> RunningChanges::send(const Json& remote, const std::optional<Json>& patch,
                                  std::string_view subresource, const CallContext& ctx) {
    if (!patch) return {};
    const std::string name = kube::name_of(remote);
    auto patched = remote_.patch(kube::resources::kPods, options_.remote_namespace, name,
                                 kube::PatchType::StrategicMerge, *patch, ctx, subresource);
    if (patched) return {};
    // The pod was read a moment ago: what is not found is the subresource.
    if (!subresource.empty() && patched.error().kind == ErrorKind::NotFound) {
        return fail(
            ErrorKind::Unsupported,
            fmt::format("the remote cluster does not serve pods/{}; it takes a newer Kubernetes there",
                        subresource));
    }
    return fail(patched.error().with_context(
        subresource.empty() ? "updating the remote pod"
                            : fmt::format("updating pods/{} of the remote pod", subresource)));
}

Result<void> RunningChanges::add_ephemeral(const DesiredPod& desired, const Json& remote,
                                           const CallContext& ctx) {
    const Translation ephemeral = translate_ephemeral(desired, options_);
    if (const auto patch = ephemeral_patch(remote, ephemeral.pod)) {
        if (auto brought = forwarding_.bring_ephemeral_references(desired, ctx); !brought) return brought;
        if (auto sent = send(remote, patch, "ephemeralcontainers", ctx); !sent) return sent;
    }
    if (auto refused = refusal_of(ephemeral)) return fail(ErrorKind::Invalid, std::move(refused->message));
    return {};
}

}  // namespace k8sgpu::providers::kubernetes
