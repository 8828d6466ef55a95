// The calls on single remote pods and on the namespace: read, delete, list, quota. Each verifies the
// owner mark before it trusts or touches anything. Any thread; keeps no state of its own.
#pragma once

#include <chrono>
#include <map>
#include <string>
#include <vector>

#include "kube/api_client.h"
#include "providers/kubernetes/locator.h"
#include "providers/kubernetes/remote_pods.h"
#include "providers/kubernetes/translate.h"

namespace k8sgpu::providers::kubernetes {

class RemoteCalls final : public Locator {
  public:
    RemoteCalls(kube::ApiClient& remote, const RemotePods& pods, const TranslateOptions& options)
        : remote_(remote), pods_(pods), options_(options) {}

    // The remote pod as it is now. NotFound when there surely is none; Conflict when something has its name
    // without our whole mark.
    Result<Json> read(const PodId& pod, const CallContext& ctx);
    Result<RemoteAddress> locate(const PodId& pod, const CallContext& ctx) override;

    enum class Removal { Ordered, WasAbsent };
    // See KubernetesProvider::remove().
    Result<Removal> remove(const PodId& pod, std::chrono::seconds grace, const CallContext& ctx);

    Result<ObservedPod> observe(const PodId& pod, const CallContext& ctx);
    Result<std::vector<ObservedPod>> list(const CallContext& ctx);
    Result<std::map<std::string, std::string>> capacity(const std::map<std::string, std::string>& fallback,
                                                        const CallContext& ctx);

    // What is reported of a pod that is not there, with the last status known.
    ObservedPod gone(const PodId& pod) const;

  private:
    kube::ApiClient& remote_;
    const RemotePods& pods_;
    const TranslateOptions& options_;
};

}  // namespace k8sgpu::providers::kubernetes
