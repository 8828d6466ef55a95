// What a tenant namespace offers, from its ResourceQuotas. Pure; any thread.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "common/json.h"

namespace k8sgpu::providers::kubernetes {

using Quantities = std::map<std::string, std::string>;  // resource name → quantity

// The hard limits of all quotas that hold for every pod, as node resources: requests.cpu and cpu become
// "cpu", limits.cpu too, count/pods becomes "pods"; of several the smallest. `fallback` says the rest, and is
// itself cut to the quota. Quotas with scopes bind some pods only and are left out; so is what is no node
// resource (services, configmaps, storage).
Quantities capacity_from_quotas(const std::vector<Json>& quotas, const Quantities& fallback);

}  // namespace k8sgpu::providers::kubernetes
