// Which handler serves a request: one table of patterns for the whole API. Pure lookup; any thread.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "kubelet_api/exchange.h"

namespace k8sgpu::kubelet_api {

struct RouteMatch {
    enum class Kind { Found, UnknownRoot, UnknownPath, WrongMethod } kind = Kind::UnknownRoot;
    Handler handler = nullptr;
    std::map<std::string, std::string, std::less<>> params;
};

RouteMatch find_route(std::string_view method, const std::vector<std::string>& segments);

// The label of a path in metrics: its root where some route has it ("exec"), "metrics/resource"
// and its like, else "other".
std::string route_label(const std::vector<std::string>& segments);

}  // namespace k8sgpu::kubelet_api
