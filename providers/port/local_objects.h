// What a provider may read from the local cluster: single objects that a pod bound to our node names, and
// nothing else. vnode/ implements it over the API client with the node's own rights; tests with a map. Any
// thread. Errors: NotFound (surely absent), Forbidden (RBAC; the message names verb and resource),
// Unavailable.
#pragma once

#include <string>

#include "common/call_context.h"
#include "common/json.h"

namespace k8sgpu::providers {

enum class LocalKind { ConfigMap, Secret };

class LocalObjects {
  public:
    virtual ~LocalObjects() = default;
    virtual Result<Json> fetch(LocalKind kind, const std::string& ns, const std::string& name,
                               const CallContext& ctx) = 0;
};

}  // namespace k8sgpu::providers
