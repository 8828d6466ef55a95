// What the kubelet API needs to know of the pods on this node. vnode/ implements it over its own store; tests
// with a map.
//
// The methods are called from connection threads, many at once, and must not block on the network. The
// provider in a view outlives the server.
#pragma once

#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "common/json.h"
#include "common/pod_id.h"
#include "providers/port/provider.h"

namespace k8sgpu::kubelet_api {

struct PodView {
    PodId id;
    // The v1.Pod with the status that this node publishes at the moment; never null. Which containers have
    // logs, and the texts of the errors where they have none, follow from that status.
    std::shared_ptr<const Json> pod;
    // Who runs it; never null.
    providers::Provider* provider = nullptr;
};

class PodLookup {
  public:
    virtual ~PodLookup() = default;
    // The pod bound to this node under that name now; nullopt when there is none.
    virtual std::optional<PodView> find(std::string_view ns, std::string_view name) const = 0;
    // All pods bound to this node, those that have ended too, in any order.
    virtual std::vector<PodView> list() const = 0;
    // Everything that runs pods for this node, each once, whether it has pods at the moment or not.
    virtual std::vector<providers::Provider*> providers() const = 0;
};

}  // namespace k8sgpu::kubelet_api
