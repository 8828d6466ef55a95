// From a remote pod to what the provider reports about it. The status is passed on as the remote kubelet
// wrote it, except that texts speak of the pod by its local name: "back-off 10s restarting failed container=c
// pod=a_default(<uid>)" and not of a pod in a namespace that its owner never heard of. What the local cluster
// shows of hostIP, podIP and conditions is vnode's decision. Pure; any thread.
#pragma once

#include <string>
#include <string_view>

#include "common/json.h"
#include "common/pod_id.h"
#include "providers/port/provider.h"

namespace k8sgpu::providers::kubernetes {

// `remote_pod` carries our whole mark, and `id` is what the mark says.
ObservedPod observed_from(const PodId& id, const Json& remote_pod);

// The same pod after its object has gone; the status stays the last one known.
ObservedPod gone_from(const PodId& id, const Json& last_remote_pod);

// A text of the remote side with the remote pod's name, namespace and UID replaced by the local ones.
std::string localize(std::string text, const PodId& local, std::string_view remote_namespace,
                     std::string_view remote_uid);

}  // namespace k8sgpu::providers::kubernetes
