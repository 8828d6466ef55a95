#include "providers/kubernetes/remote_calls.h"

#include <fmt/format.h>

#include <algorithm>

#include "kube/object.h"
#include "providers/kubernetes/quota.h"
#include "providers/kubernetes/status_map.h"

namespace k8sgpu::providers::kubernetes {
namespace {

// A remote pod may be replaced between our look and our delete; more often than this is somebody's loop.
constexpr int kRemoveAttempts = 3;

}  // namespace

Result<Json> RemoteCalls::read(const PodId& pod, const CallContext& ctx) {
    const std::string name = remote_pod_name(pod);
    auto object = remote_.get(kube::resources::kPods, options_.remote_namespace, name, ctx);
    if (!object) {
        Error error = object.error().with_context("reading the remote pod");
        error.message = localize(std::move(error.message), pod, options_.remote_namespace, "");
        return fail(std::move(error));
    }
    if (marked_pod(*object, options_.owner) == pod) return object;
    return fail(ErrorKind::Conflict,
                fmt::format("remote pod {}/{} has lost its owner mark; give it back its k8s.gpu/ labels and "
                            "annotations, or delete it there",
                            options_.remote_namespace, name));
}

Result<RemoteAddress> RemoteCalls::locate(const PodId& pod, const CallContext& ctx) {
    const std::string name = remote_pod_name(pod);
    if (const auto known = pods_.find(pod.uid)) {
        return RemoteAddress{options_.remote_namespace, name, kube::uid_of(*known->object)};
    }
    auto object = read(pod, ctx);
    if (!object) return fail(object.error());
    return RemoteAddress{options_.remote_namespace, name, kube::uid_of(*object)};
}

Result<RemoteCalls::Removal> RemoteCalls::remove(const PodId& pod, std::chrono::seconds grace,
                                                 const CallContext& ctx) {
    grace = std::max(grace, std::chrono::seconds(1));
    std::optional<std::string> uid;
    if (const auto known = pods_.find(pod.uid)) {
        const bool shorter =
            grace.count() < int_at(*known->object, {"metadata", "deletionGracePeriodSeconds"});
        if (kube::is_deleting(*known->object) && !shorter) return Removal::Ordered;
        uid = kube::uid_of(*known->object);
    }
    Error last;
    for (int attempt = 0; attempt < kRemoveAttempts; ++attempt) {
        if (!uid) {
            auto object = read(pod, ctx);
            if (!object && object.error().kind == ErrorKind::NotFound) return Removal::WasAbsent;
            if (!object) return fail(object.error());
            uid = kube::uid_of(*object);
        }
        auto removed = remote_.remove(kube::resources::kPods, options_.remote_namespace, remote_pod_name(pod),
                                      {.uid = uid, .grace = grace}, ctx);
        if (removed) return Removal::Ordered;
        last = removed.error();
        const bool look_again = last.kind == ErrorKind::NotFound || last.kind == ErrorKind::Conflict;
        if (!look_again) return fail(last.with_context("deleting the remote pod"));
        uid.reset();  // another object has the name, or none: only a live look tells
    }
    return fail(last.with_context("deleting the remote pod"));
}

Result<ObservedPod> RemoteCalls::observe(const PodId& pod, const CallContext& ctx) {
    auto object = read(pod, ctx);
    if (object) return observed_from(pod, *object);
    if (object.error().kind != ErrorKind::NotFound) return fail(object.error());
    return gone(pod);
}

Result<std::vector<ObservedPod>> RemoteCalls::list(const CallContext& ctx) {
    kube::ListOptions options;
    options.label_selector = mark_selector(options_.owner);
    options.limit = 500;
    auto objects = remote_.list_all(kube::resources::kPods, options_.remote_namespace, options, ctx);
    if (!objects) return fail(objects.error().with_context("listing remote pods"));
    std::vector<ObservedPod> pods;
    for (const Json& object : objects->items) {
        if (const auto id = marked_pod(object, options_.owner)) pods.push_back(observed_from(*id, object));
    }
    return pods;
}

Result<std::map<std::string, std::string>> RemoteCalls::capacity(
    const std::map<std::string, std::string>& fallback, const CallContext& ctx) {
    auto quotas = remote_.list_all(kube::resources::kResourceQuotas, options_.remote_namespace, {}, ctx);
    if (quotas) return capacity_from_quotas(quotas->items, fallback);
    // A Role that does not show quotas is a choice; an API server that is away is not.
    if (quotas.error().kind == ErrorKind::Forbidden) return fallback;
    return fail(quotas.error().with_context("reading the remote quota"));
}

ObservedPod RemoteCalls::gone(const PodId& pod) const {
    if (const auto known = pods_.find(pod.uid)) return gone_from(pod, *known->object);
    ObservedPod absent;
    absent.id = pod;
    absent.status = Json::object();
    absent.may_be_running = false;
    absent.gone = true;
    return absent;
}

}  // namespace k8sgpu::providers::kubernetes
