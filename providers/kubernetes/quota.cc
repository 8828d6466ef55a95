#include "providers/kubernetes/quota.h"

#include <optional>

#include "kube/quantity.h"

namespace k8sgpu::providers::kubernetes {
namespace {

// "requests.nvidia.com/gpu" → "nvidia.com/gpu"; nullopt for what no node offers.
std::optional<std::string> node_resource(std::string_view name) {
    if (name == "count/pods") return "pods";
    bool computed = false;
    for (const std::string_view prefix : {"requests.", "limits."}) {
        if (name.starts_with(prefix)) {
            name.remove_prefix(prefix.size());
            computed = true;
        }
    }
    if (name == "cpu" || name == "memory" || name == "ephemeral-storage" || name == "pods" ||
        name.starts_with("hugepages-")) {
        return std::string(name);
    }
    // Extended resources are named domain/resource; storage classes' and object counts look alike without
    // the prefix.
    if (computed && name.find('/') != std::string_view::npos &&
        name.find("storageclass.storage.k8s.io/") == std::string_view::npos) {
        return std::string(name);
    }
    return std::nullopt;
}

bool binds_every_pod(const Json& quota) {
    return array_at(quota, {"spec", "scopes"}).empty() && object_at(quota, {"spec", "scopeSelector"}).empty();
}

}  // namespace

Quantities capacity_from_quotas(const std::vector<Json>& quotas, const Quantities& fallback) {
    Quantities capacity = fallback;
    for (const Json& quota : quotas) {
        if (!binds_every_pod(quota)) continue;
        for (const auto& [name, value] : object_at(quota, {"spec", "hard"}).items()) {
            const auto resource = node_resource(name);
            if (!resource || !value.is_string()) continue;
            const auto hard = kube::Quantity::parse(value.get_ref<const std::string&>());
            if (!hard) continue;
            const auto [entry, fresh] = capacity.try_emplace(*resource, value.get<std::string>());
            const auto present = kube::Quantity::parse(entry->second);
            if (!fresh && (!present || *hard < *present)) entry->second = value.get<std::string>();
        }
    }
    return capacity;
}

}  // namespace k8sgpu::providers::kubernetes
