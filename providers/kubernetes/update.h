// What changed of a running pod that its copy may take over. Kubernetes spreads it over the pod itself
// (image, deadline, tolerations, labels, annotations) and two subresources (resize, ephemeralcontainers),
// each with a right of its own. Pure; any thread.
#pragma once

#include <optional>

#include "common/json.h"

namespace k8sgpu::providers::kubernetes {

// Strategic merge patches that bring `remote` (the pod as it is there) to `wanted` (the translation of the
// local pod as it is now); nullopt when there is nothing to carry. Each names the remote UID, so that it
// fails with Conflict on any other pod.

// Labels and annotations that the remote side added are left; ours that are gone locally are removed, known
// by the k8s.gpu/carried annotation. Tolerations are only ever added (validation of pod updates).
std::optional<Json> update_patch(const Json& remote, const Json& wanted);

// cpu and memory of containers, the resources that can change in place (KEP-1287). Only what the local pod
// states is compared: the remote namespace may have defaults of its own.
std::optional<Json> resize_patch(const Json& remote, const Json& wanted);

// `containers` is the translated list of the local pod; those that the copy does not have by name are added,
// which is all that can be done with an ephemeral container.
std::optional<Json> ephemeral_patch(const Json& remote, const Json& containers);

}  // namespace k8sgpu::providers::kubernetes
