// The local objects that a pod needs before it can be created anywhere, and what their absence means. Pure;
// any thread.
#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "providers/port/provider.h"
#include "providers/port/references.h"

namespace k8sgpu::providers::kubernetes {

using ObjectKey = std::pair<LocalKind, std::string>;  // name in the pod's namespace

// What was read: the object, or why not (NotFound, Forbidden). Every reference of the pod has an entry.
using FetchedObjects = std::map<ObjectKey, Result<Json>>;

// The outcome that stops the pod, in the kubelet's order (volumes, then environments) and words; nullopt when
// everything that must be there is. Refused for the Secret of a service account: its token would hand the
// local cluster's credentials to the remote one.
std::optional<EnsureOutcome> missing_inputs(const PodId& pod, const Json& local_pod,
                                            const std::vector<ObjectReference>& references,
                                            const FetchedObjects& fetched);

// The names of pull secrets that are not there. The kubelet pulls without them and says so in an Event.
std::vector<std::string> missing_pull_secrets(const std::vector<ObjectReference>& references,
                                              const FetchedObjects& fetched);

}  // namespace k8sgpu::providers::kubernetes
