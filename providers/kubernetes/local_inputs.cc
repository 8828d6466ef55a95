#include "providers/kubernetes/local_inputs.h"

#include <fmt/format.h>

#include <algorithm>

namespace k8sgpu::providers::kubernetes {
namespace {

std::string_view lower_kind(LocalKind kind) {
    return kind == LocalKind::Secret ? "secret" : "configmap";
}

std::optional<std::string> missing_key(const Json& object, const ObjectReference& reference) {
    for (const std::string& key : reference.keys) {
        if (object_at(object, {"data"}).contains(key)) continue;
        if (object_at(object, {"binaryData"}).contains(key) && reference.use == ReferenceUse::Volume)
            continue;
        return key;
    }
    return std::nullopt;
}

// Why the kubelet could not use the object, in its words; nullopt when it can.
std::optional<std::string> complaint(const PodId& pod, const ObjectReference& reference,
                                     const Result<Json>& fetched) {
    if (!fetched) {
        const bool absent = fetched.error().kind == ErrorKind::NotFound;
        if (absent && reference.optional) return std::nullopt;
        if (absent) return fmt::format("{} \"{}\" not found", lower_kind(reference.kind), reference.name);
        return fetched.error().message;
    }
    if (reference.optional) return std::nullopt;
    const auto key = missing_key(*fetched, reference);
    if (!key) return std::nullopt;
    if (reference.use == ReferenceUse::Volume) {
        return fmt::format("references non-existent {} key: {}",
                           reference.kind == LocalKind::Secret ? "secret" : "config", *key);
    }
    return fmt::format("couldn't find key {} in {} {}/{}", *key,
                       reference.kind == LocalKind::Secret ? "Secret" : "ConfigMap", pod.ns, reference.name);
}

Blocked blocked_by_volume(const Json& local_pod, const ObjectReference& reference, const std::string& why) {
    const bool has_init = !array_at(local_pod, {"spec", "initContainers"}).empty();
    return Blocked{has_init ? "PodInitializing" : "ContainerCreating",
                   "",
                   {},
                   "FailedMount",
                   fmt::format("MountVolume.SetUp failed for volume \"{}\" : {}", reference.volume, why)};
}

Blocked blocked_by_env(const ObjectReference& reference, const std::string& why) {
    return Blocked{"CreateContainerConfigError", why, {reference.container}, "Failed", "Error: " + why};
}

}  // namespace

std::optional<EnsureOutcome> missing_inputs(const PodId& pod, const Json& local_pod,
                                            const std::vector<ObjectReference>& references,
                                            const FetchedObjects& fetched) {
    for (const ObjectReference& reference : references) {
        const auto& object = fetched.at({reference.kind, reference.name});
        if (object && string_at(*object, {"type"}) == "kubernetes.io/service-account-token") {
            return Refused{
                "PodFeatureUnsupported",
                fmt::format("{}: secret \"{}\" holds a service account's token, which is not handed "
                            "to the remote cluster; put what the pod needs into a Secret of type "
                            "Opaque",
                            reference.field, reference.name)};
        }
    }
    std::optional<Blocked> blocked;
    for (const ObjectReference& reference : references) {
        if (reference.use == ReferenceUse::ImagePullSecret) continue;
        const auto why = complaint(pod, reference, fetched.at({reference.kind, reference.name}));
        if (!why) continue;
        // The kubelet mounts everything before it makes the first container.
        if (reference.use == ReferenceUse::Volume) return blocked_by_volume(local_pod, reference, *why);
        if (!blocked) {
            blocked = blocked_by_env(reference, *why);
        } else if (blocked->waiting_message == *why &&
                   std::find(blocked->containers.begin(), blocked->containers.end(), reference.container) ==
                       blocked->containers.end()) {
            blocked->containers.push_back(reference.container);
        }
    }
    if (!blocked) return std::nullopt;
    return EnsureOutcome(std::move(*blocked));
}

std::vector<std::string> missing_pull_secrets(const std::vector<ObjectReference>& references,
                                              const FetchedObjects& fetched) {
    std::vector<std::string> names;
    for (const ObjectReference& reference : references) {
        if (reference.use != ReferenceUse::ImagePullSecret) continue;
        if (!fetched.at({reference.kind, reference.name})) names.push_back(reference.name);
    }
    return names;
}

}  // namespace k8sgpu::providers::kubernetes
