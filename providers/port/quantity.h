// Kubernetes quantities ("500m", "1.5Gi", "2e3") as whole numbers of a unit, rounded up as the kubelet rounds
// them for the downward API. Pure; any thread. The grammar is that of resource.Quantity: a decimal number
// followed by a decimal exponent, a decimal suffix (n u m k M G T P E) or a binary one (Ki Mi Gi Ti Pi Ei).
#pragma once

#include <cstdint>
#include <string_view>

#include "common/result.h"

namespace k8sgpu::providers {

enum class QuantityUnit { One, Milli };

// Ceiling of the quantity in this unit; saturates at the ends of int64. Invalid names the text.
Result<std::int64_t> quantity_in(std::string_view text, QuantityUnit unit);

}  // namespace k8sgpu::providers
