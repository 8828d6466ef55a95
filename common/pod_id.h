// Who a pod is. The UID is the identity; namespace and name are only where to find it, because a StatefulSet
// reuses the name for the next pod. Plain values; any thread.
#pragma once

#include <compare>
#include <string>

namespace k8sgpu {

struct PodId {
    std::string ns;
    std::string name;
    std::string uid;

    std::string full_name() const { return ns + "/" + name; }
    auto operator<=>(const PodId&) const = default;
};

}  // namespace k8sgpu
