#include "providers/kubernetes/forwarding.h"

#include <fmt/format.h>

#include <algorithm>

#include "common/log.h"
#include "kube/object.h"
#include "providers/kubernetes/create_errors.h"
#include "providers/kubernetes/rewriters.h"

namespace k8sgpu::providers::kubernetes {
namespace {

constexpr std::string_view kEphemeralField = "spec.ephemeralContainers";

DesiredPod without_pull_secrets(const DesiredPod& desired, const std::vector<std::string>& missing) {
    DesiredPod pod = desired;
    Json kept = Json::array();
    for (const Json& secret : array_at(desired.pod, {"spec", "imagePullSecrets"})) {
        if (std::find(missing.begin(), missing.end(), string_at(secret, {"name"})) == missing.end()) {
            kept.push_back(secret);
        }
    }
    pod.pod["spec"]["imagePullSecrets"] = std::move(kept);
    return pod;
}

std::string describe(const ObjectKey& key) {
    return fmt::format("copy of {} \"{}\"", key.first == LocalKind::Secret ? "secret" : "configmap",
                       key.second);
}

}  // namespace

std::vector<ObjectReference> carried_references(const Json& local_pod) {
    const auto token_volumes = automatic_token_volumes(local_pod);
    std::vector<ObjectReference> references = collect_references(local_pod);
    std::erase_if(references, [&](const ObjectReference& r) {
        return token_volumes.contains(r.volume) || r.field.starts_with(kEphemeralField);
    });
    return references;
}

std::vector<ObjectReference> ephemeral_references(const Json& local_pod) {
    std::vector<ObjectReference> references = collect_references(local_pod);
    std::erase_if(references, [](const ObjectReference& r) { return !r.field.starts_with(kEphemeralField); });
    return references;
}

Result<void> Forwarding::bring_ephemeral_references(const DesiredPod& desired, const CallContext& ctx) {
    auto fetched = fetch(desired.id, ephemeral_references(desired.pod), ctx);
    if (!fetched) return fail(fetched.error());
    for (const auto& [key, object] : *fetched) {
        if (!object) continue;
        if (auto copied = copies_.ensure(key.first, *object, desired.id.uid, ctx); !copied) {
            return fail(copied.error().with_context(describe(key)));
        }
    }
    return {};
}

Result<EnsureOutcome> Forwarding::ensure(const DesiredPod& desired, const CallContext& ctx) {
    if (pods_.find(desired.id.uid)) return EnsureOutcome(Accepted{});
    pods_.expect(desired.id);
    auto outcome = forward(desired, ctx);
    // After an error the pod may exist: its copies stay held until a later call knows more.
    if (outcome && !std::holds_alternative<Accepted>(*outcome)) {
        copies_.release(desired.id.uid);
        pods_.expect_no_more(desired.id);
    }
    // Seen by the watch before this call ended: what it uses is known from there.
    if (outcome && pods_.find(desired.id.uid)) copies_.release(desired.id.uid);
    return outcome;
}

Result<EnsureOutcome> Forwarding::forward(const DesiredPod& desired, const CallContext& ctx) {
    if (auto refused = refusal_of(translate(desired, options_))) return EnsureOutcome(std::move(*refused));

    const auto references = carried_references(desired.pod);
    auto fetched = fetch(desired.id, references, ctx);
    if (!fetched) return fail(fetched.error());
    if (auto outcome = missing_inputs(desired.id, desired.pod, references, *fetched))
        return std::move(*outcome);

    for (const auto& [key, object] : *fetched) {
        if (!object) continue;
        auto copied = copies_.ensure(key.first, *object, desired.id.uid, ctx);
        if (!copied) return outcome_of_create_error(copied.error(), describe(key));
    }
    const auto missing = missing_pull_secrets(references, *fetched);
    const Translation translation = translate(without_pull_secrets(desired, missing), options_);
    return create(desired.id, translation, missing, ctx);
}

Result<FetchedObjects> Forwarding::fetch(const PodId& pod, const std::vector<ObjectReference>& references,
                                         const CallContext& ctx) {
    FetchedObjects fetched;
    for (const auto& [key, optional] : distinct_objects(references)) {
        auto object = local_.fetch(key.first, pod.ns, key.second, ctx);
        const bool known = object || object.error().kind == ErrorKind::NotFound ||
                           object.error().kind == ErrorKind::Forbidden;
        if (!known) return fail(object.error().with_context("reading what the pod refers to"));
        fetched.emplace(key, std::move(object));
    }
    return fetched;
}

Result<EnsureOutcome> Forwarding::create(const PodId& pod, const Translation& translation,
                                         const std::vector<std::string>& missing_pull_secrets,
                                         const CallContext& ctx) {
    auto created = remote_.create(kube::resources::kPods, options_.remote_namespace, translation.pod, ctx);
    if (created) {
        log().info("{}: runs as remote pod {}/{} uid={}", pod, options_.remote_namespace,
                   kube::name_of(*created), kube::uid_of(*created));
        tell_about(pod, translation, missing_pull_secrets);
        return EnsureOutcome(Accepted{});
    }
    if (created.error().kind == ErrorKind::AlreadyExists) {
        return adopt(pod, kube::name_of(translation.pod), ctx);
    }
    return outcome_of_create_error(created.error(), "remote pod");
}

Result<EnsureOutcome> Forwarding::adopt(const PodId& pod, const std::string& name, const CallContext& ctx) {
    auto existing = remote_.get(kube::resources::kPods, options_.remote_namespace, name, ctx);
    if (!existing) {
        if (existing.error().kind != ErrorKind::NotFound) {
            return fail(existing.error().with_context("reading the remote pod that exists already"));
        }
        // It was there a moment ago, from an earlier attempt, and somebody deleted it: it has had its life.
        gone_(pod);
        return EnsureOutcome(Accepted{});
    }
    const auto owner = marked_pod(*existing, options_.owner);
    if (owner == pod) return EnsureOutcome(Accepted{});
    return EnsureOutcome(Refused{
        "NameConflict",
        fmt::format("remote pod {}/{} exists and does not carry the owner mark of this pod; delete it there, "
                    "then create this pod anew",
                    options_.remote_namespace, name)});
}

void Forwarding::tell_about(const PodId& pod, const Translation& translation,
                            const std::vector<std::string>& missing_pull_secrets) {
    if (!missing_pull_secrets.empty()) {
        report_(
            pod, "Warning", "FailedToRetrieveImagePullSecret",
            fmt::format("Unable to retrieve some image pull secrets ({}); attempting to pull the image may "
                        "not succeed.",
                        fmt::join(missing_pull_secrets, ", ")));
    }
    std::string notes;
    for (const Change& change : translation.changes) {
        if (!change.notable) continue;
        if (!notes.empty()) notes += "; ";
        notes += change.field + ": " + change.note;
    }
    if (!notes.empty()) report_(pod, "Normal", "NotForwarded", notes);
}

}  // namespace k8sgpu::providers::kubernetes
