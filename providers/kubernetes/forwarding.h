// ensure(), step by step: what the pod names is read from the local cluster, copied to the tenant namespace,
// and then the remote pod is created under the name that its UID gives. Safe to repeat after any failure:
//
//   refused by the table? ─▶ references ─▶ fetch ─▶ missing? Blocked ─▶ copies ─▶ POST ─▶ Accepted
//                                                                              │ AlreadyExists
//                                                                              └─▶ GET: ours? ─▶ Accepted
//
// Any thread; never two calls for one pod at once.
#pragma once

#include <functional>

#include "kube/api_client.h"
#include "providers/kubernetes/objects_sync.h"
#include "providers/kubernetes/remote_pods.h"
#include "providers/kubernetes/translate.h"
#include "providers/port/local_objects.h"

namespace k8sgpu::providers::kubernetes {

class Forwarding {
  public:
    // For Events on the local pod.
    using Report = std::function<void(const PodId&, const std::string& type, const std::string& reason,
                                      const std::string&)>;
    // For a pod that was there once and is not any more: it must not be created again.
    using Gone = std::function<void(const PodId&)>;

    Forwarding(kube::ApiClient& remote, LocalObjects& local, ObjectCopies& copies, RemotePods& pods,
               const TranslateOptions& options, Report report, Gone gone)
        : remote_(remote),
          local_(local),
          copies_(copies),
          pods_(pods),
          options_(options),
          report_(std::move(report)),
          gone_(std::move(gone)) {}

    Result<EnsureOutcome> ensure(const DesiredPod& desired, const CallContext& ctx);

    // Brings what the pod's ephemeral containers name to the tenant namespace; what is missing is left for
    // the remote kubelet to complain about, as a local one would.
    Result<void> bring_ephemeral_references(const DesiredPod& desired, const CallContext& ctx);

  private:
    Result<EnsureOutcome> forward(const DesiredPod& desired, const CallContext& ctx);
    Result<FetchedObjects> fetch(const PodId& pod, const std::vector<ObjectReference>& references,
                                 const CallContext& ctx);
    Result<EnsureOutcome> create(const PodId& pod, const Translation& translation,
                                 const std::vector<std::string>& missing_pull_secrets,
                                 const CallContext& ctx);
    Result<EnsureOutcome> adopt(const PodId& pod, const std::string& name, const CallContext& ctx);
    void tell_about(const PodId& pod, const Translation& translation,
                    const std::vector<std::string>& missing_pull_secrets);

    kube::ApiClient& remote_;
    LocalObjects& local_;
    ObjectCopies& copies_;
    RemotePods& pods_;
    const TranslateOptions& options_;
    const Report report_;
    const Gone gone_;
};

// The references that a new remote pod will have: those of left-out parts (the automatic token volume,
// ephemeral containers) are not read at all. Pure.
std::vector<ObjectReference> carried_references(const Json& local_pod);

// Those that its ephemeral containers add. Pure.
std::vector<ObjectReference> ephemeral_references(const Json& local_pod);

}  // namespace k8sgpu::providers::kubernetes
