// The mark by which we know our own objects in a namespace that others use too. Nothing without the whole
// mark is ever changed or deleted: two labels say which node of which cluster, a third which pod, two
// annotations where that pod is found, and the object's name must be the one that all this leads to. A copy
// of a marked object under another name, or a foreign object with some of the labels, is not ours. Pure; any
// thread.
#pragma once

#include <optional>
#include <string>
#include <utility>

#include "common/json.h"
#include "common/pod_id.h"
#include "providers/kubernetes/names.h"

namespace k8sgpu::providers::kubernetes {

// Keys of this domain are ours; a user's keys in it are not carried to remote pods.
inline constexpr std::string_view kDomain = "k8s.gpu/";
inline constexpr const char* kClusterLabel = "k8s.gpu/cluster";
inline constexpr const char* kNodeLabel = "k8s.gpu/node";
inline constexpr const char* kPodUidLabel = "k8s.gpu/pod-uid";
inline constexpr const char* kTenantLabel = "k8s.gpu/tenant";  // informative, no part of the mark
inline constexpr const char* kPodNamespaceAnnotation = "k8s.gpu/pod-namespace";
inline constexpr const char* kPodNameAnnotation = "k8s.gpu/pod-name";
inline constexpr const char* kSourceNamespaceAnnotation = "k8s.gpu/source-namespace";
inline constexpr const char* kSourceNameAnnotation = "k8s.gpu/source-name";
// Which of the pod's own labels and annotations were carried along, so that removing one locally removes it
// there and what the remote side added stays.
inline constexpr const char* kCarriedAnnotation = "k8s.gpu/carried";

// Selects what may be ours, for list and watch.
std::string mark_selector(const OwnerMark& owner);

void mark_pod(Json& metadata, const OwnerMark& owner, const PodId& pod);
// The local pod that this remote pod is for; nullopt without the whole mark.
std::optional<PodId> marked_pod(const Json& remote_pod, const OwnerMark& owner);

void mark_copy(Json& metadata, const OwnerMark& owner, std::string_view ns, std::string_view name);
// True with the whole mark of a copy of this kind.
bool is_our_copy(const Json& object, LocalKind kind, const OwnerMark& owner);

}  // namespace k8sgpu::providers::kubernetes
