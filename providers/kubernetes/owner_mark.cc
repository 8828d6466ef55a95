#include "providers/kubernetes/owner_mark.h"

namespace k8sgpu::providers::kubernetes {
namespace {

bool owner_labels_match(const Json& object, const OwnerMark& owner) {
    return string_at(object, {"metadata", "labels", kClusterLabel}) == label_value(owner.cluster_uid) &&
           string_at(object, {"metadata", "labels", kNodeLabel}) == label_value(owner.node_name);
}

void set_owner_labels(Json& metadata, const OwnerMark& owner) {
    metadata["labels"][kClusterLabel] = label_value(owner.cluster_uid);
    metadata["labels"][kNodeLabel] = label_value(owner.node_name);
}

}  // namespace

std::string mark_selector(const OwnerMark& owner) {
    return std::string(kClusterLabel) + "=" + label_value(owner.cluster_uid) + "," + kNodeLabel + "=" +
           label_value(owner.node_name);
}

void mark_pod(Json& metadata, const OwnerMark& owner, const PodId& pod) {
    set_owner_labels(metadata, owner);
    metadata["labels"][kPodUidLabel] = pod.uid;
    metadata["annotations"][kPodNamespaceAnnotation] = pod.ns;
    metadata["annotations"][kPodNameAnnotation] = pod.name;
}

std::optional<PodId> marked_pod(const Json& remote_pod, const OwnerMark& owner) {
    if (!owner_labels_match(remote_pod, owner)) return std::nullopt;
    PodId pod{string_at(remote_pod, {"metadata", "annotations", kPodNamespaceAnnotation}),
              string_at(remote_pod, {"metadata", "annotations", kPodNameAnnotation}),
              string_at(remote_pod, {"metadata", "labels", kPodUidLabel})};
    if (pod.ns.empty() || pod.name.empty() || pod.uid.empty()) return std::nullopt;
    if (string_at(remote_pod, {"metadata", "name"}) != remote_pod_name(pod)) return std::nullopt;
    return pod;
}

void mark_copy(Json& metadata, const OwnerMark& owner, std::string_view ns, std::string_view name) {
    set_owner_labels(metadata, owner);
    metadata["annotations"][kSourceNamespaceAnnotation] = ns;
    metadata["annotations"][kSourceNameAnnotation] = name;
}

bool is_our_copy(const Json& object, LocalKind kind, const OwnerMark& owner) {
    if (!owner_labels_match(object, owner)) return false;
    const std::string ns = string_at(object, {"metadata", "annotations", kSourceNamespaceAnnotation});
    const std::string name = string_at(object, {"metadata", "annotations", kSourceNameAnnotation});
    if (ns.empty() || name.empty()) return false;
    return string_at(object, {"metadata", "name"}) == copy_name(owner, kind, ns, name);
}

}  // namespace k8sgpu::providers::kubernetes
