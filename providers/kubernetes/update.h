// What changed of a running pod that its copy may take over: the image of a container, the deadline, labels
// and annotations. Pure; any thread.
#pragma once

#include <optional>

#include "common/json.h"

namespace k8sgpu::providers::kubernetes {

// The strategic merge patch that brings `remote` (the pod as it is there) to `wanted` (the translation of the
// local pod as it is now); nullopt when there is nothing to carry. Labels and annotations that the remote
// side added are left; ours that are gone locally are removed, known by the k8s.gpu/carried annotation. The
// patch names the remote UID, so that it fails with Conflict on any other pod.
std::optional<Json> update_patch(const Json& remote, const Json& wanted);

}  // namespace k8sgpu::providers::kubernetes
