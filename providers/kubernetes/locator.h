// Where a local pod's copy is: what logs, exec and the like need to know of the provider. Any thread.
#pragma once

#include <string>

#include "common/call_context.h"
#include "common/pod_id.h"

namespace k8sgpu::providers::kubernetes {

struct RemoteAddress {
    std::string ns;
    std::string name;
    std::string uid;
};

class Locator {
  public:
    virtual ~Locator() = default;
    // NotFound when there surely is none; Conflict when something without our whole mark has its name.
    virtual Result<RemoteAddress> locate(const PodId& pod, const CallContext& ctx) = 0;
};

}  // namespace k8sgpu::providers::kubernetes
