#include "kubelet_api/router.h"

#include <algorithm>
#include <array>
#include <optional>

#include "kubelet_api/routes/routes.h"

namespace k8sgpu::kubelet_api {

namespace {

struct Route {
    std::string_view methods;  // separated by blanks; "*" = any
    std::string_view pattern;  // "{name}" takes one segment, "*" the rest, even nothing
    Handler handler;
};

constexpr std::string_view kStreaming = "GET POST";

const Route kRoutes[] = {
    {"*", "healthz", routes::healthz},
    {"*", "healthz/{check}", routes::healthz_check},
    {"GET", "pods", routes::pods},
    {"GET", "runningpods", routes::running_pods},
    {"*", "metrics", routes::metrics},
    {"*", "metrics/cadvisor", routes::cadvisor_metrics},
    {"*", "metrics/probes", routes::metrics_probes},
    {"*", "metrics/resource", routes::resource_metrics},
    {"*", "metrics/slis", routes::metrics_slis},
    {kStreaming, "stats/summary", routes::stats_summary},
    {"*", "configz", routes::configz},
    {"GET", "containerLogs/{ns}/{pod}/{container}", routes::container_logs},
    {"POST", "checkpoint/{ns}/{pod}/{container}", routes::checkpoint},
    {"POST", "run/{ns}/{pod}/{container}", routes::run},
    {"POST", "run/{ns}/{pod}/{uid}/{container}", routes::run},
    {kStreaming, "exec/{ns}/{pod}/{container}", routes::exec},
    {kStreaming, "exec/{ns}/{pod}/{uid}/{container}", routes::exec},
    {kStreaming, "attach/{ns}/{pod}/{container}", routes::attach},
    {kStreaming, "attach/{ns}/{pod}/{uid}/{container}", routes::attach},
    {kStreaming, "portForward/{ns}/{pod}", routes::port_forward},
    {kStreaming, "portForward/{ns}/{pod}/{uid}", routes::port_forward},
    {"*", "logs/*", routes::logs_disabled},
    {"*", "debug/*", routes::debug_disabled},
};

std::string_view take_segment(std::string_view& text) {
    const std::string_view segment = text.substr(0, text.find('/'));
    text.remove_prefix(std::min(text.size(), segment.size() + 1));
    return segment;
}

using Params = std::map<std::string, std::string, std::less<>>;

std::optional<Params> match(std::string_view pattern, const std::vector<std::string>& segments) {
    Params params;
    for (const std::string& segment : segments) {
        if (pattern == "*") return params;
        if (pattern.empty()) return std::nullopt;
        const std::string_view expected = take_segment(pattern);
        if (expected.starts_with('{')) {
            params.emplace(expected.substr(1, expected.size() - 2), segment);
        } else if (expected != segment) {
            return std::nullopt;
        }
    }
    if (!pattern.empty() && pattern != "*") return std::nullopt;
    return params;
}

bool allows(std::string_view methods, std::string_view method) {
    if (methods == "*") return true;
    while (!methods.empty()) {
        const std::string_view one = methods.substr(0, methods.find(' '));
        if (one == method) return true;
        methods.remove_prefix(std::min(methods.size(), one.size() + 1));
    }
    return false;
}

bool known_root(const std::vector<std::string>& segments) {
    return !segments.empty() && std::any_of(std::begin(kRoutes), std::end(kRoutes), [&](const Route& route) {
        std::string_view pattern = route.pattern;
        return take_segment(pattern) == segments.front();
    });
}

}  // namespace

RouteMatch find_route(std::string_view method, const std::vector<std::string>& segments) {
    RouteMatch found;
    if (!known_root(segments)) return found;
    found.kind = RouteMatch::Kind::UnknownPath;
    for (const Route& route : kRoutes) {
        auto params = match(route.pattern, segments);
        if (!params) continue;
        if (!allows(route.methods, method)) {
            found.kind = RouteMatch::Kind::WrongMethod;
            continue;
        }
        return {RouteMatch::Kind::Found, route.handler, std::move(*params)};
    }
    return found;
}

std::string route_label(const std::vector<std::string>& segments) {
    if (!known_root(segments)) return "other";
    if (segments.front() != "metrics" || segments.size() < 2) return segments.front();
    const std::string path = "metrics/" + segments[1];
    const bool known = std::any_of(std::begin(kRoutes), std::end(kRoutes),
                                   [&](const Route& route) { return route.pattern == path; });
    return known ? path : "other";
}

}  // namespace k8sgpu::kubelet_api
