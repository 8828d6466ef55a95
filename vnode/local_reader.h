// LocalObjects over the API client: single ConfigMaps and Secrets, with the node's own rights. A denial is
// explained once more in our own words, because the API server's text does not say which manifest grants it.
// Stateless; any thread.
#pragma once

#include "kube/api_client.h"
#include "providers/port/local_objects.h"

namespace k8sgpu::vnode {

class LocalReader final : public providers::LocalObjects {
  public:
    explicit LocalReader(kube::ApiClient& client) : client_(client) {}

    Result<Json> fetch(providers::LocalKind kind, const std::string& ns, const std::string& name,
                       const CallContext& ctx) override {
        const auto& resource =
            kind == providers::LocalKind::Secret ? kube::resources::kSecrets : kube::resources::kConfigMaps;
        auto object = client_.get(resource, ns, name, ctx);
        if (!object && object.error().kind == ErrorKind::Forbidden) {
            return fail(
                object.error().with_context("the local cluster refuses (grant it with manifests/rbac.yaml)"));
        }
        return object;
    }

  private:
    kube::ApiClient& client_;
};

}  // namespace k8sgpu::vnode
