#include "vnode/pod_requests.h"

#include <algorithm>

namespace k8sgpu::vnode {
namespace {

Requests requests_of(const Json& holder) {
    Requests requests;
    for (const auto& [resource, quantity] : object_at(holder, {"resources", "requests"}).items()) {
        if (!quantity.is_string()) continue;
        if (const auto value = kube::Quantity::parse(quantity.get_ref<const std::string&>()))
            requests[resource] = *value;
    }
    return requests;
}

void add(Requests& sum, const Requests& more) {
    for (const auto& [resource, quantity] : more) sum[resource] += quantity;
}

void raise(Requests& peak, const Requests& other) {
    for (const auto& [resource, quantity] : other) peak[resource] = std::max(peak[resource], quantity);
}

}  // namespace

Requests pod_requests(const Json& pod) {
    const Json& spec = object_at(pod, {"spec"});
    Requests running;
    for (const Json& container : array_at(spec, {"containers"})) add(running, requests_of(container));
    Requests sidecars, peak;
    for (const Json& container : array_at(spec, {"initContainers"})) {
        if (string_at(container, {"restartPolicy"}) == "Always") {
            add(sidecars, requests_of(container));
            raise(peak, sidecars);
        } else {
            Requests meanwhile = sidecars;
            add(meanwhile, requests_of(container));
            raise(peak, meanwhile);
        }
    }
    add(running, sidecars);
    raise(running, peak);
    for (const auto& [resource, quantity] : requests_of(spec)) running[resource] = quantity;
    add(running, requests_of({{"resources", {{"requests", object_at(spec, {"overhead"})}}}}));
    return running;
}

std::map<std::string, std::string> requests_in_use(const std::vector<kube::ObjectPtr>& pods) {
    Requests sum;
    std::int64_t count = 0;
    for (const auto& pod : pods) {
        const std::string phase = string_at(*pod, {"status", "phase"});
        if (phase == "Succeeded" || phase == "Failed") continue;
        ++count;
        add(sum, pod_requests(*pod));
    }
    std::map<std::string, std::string> used;
    for (const auto& [resource, quantity] : sum) used[resource] = quantity.to_string();
    used["pods"] = std::to_string(count);
    return used;
}

}  // namespace k8sgpu::vnode
