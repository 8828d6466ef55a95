#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "common/log.h"
#include "kubelet_api/routes/routes.h"

namespace k8sgpu::kubelet_api::routes {

namespace {

// As the kubelet's: ping and log say that we answer at all, syncloop that pods are being looked after.
constexpr std::string_view kChecks[] = {"ping", "log", "syncloop"};

Result<void> check(std::string_view name, const ApiContext& api) {
    if (name != "syncloop" || !api.health) return {};
    return api.health();
}

}  // namespace

void healthz(Exchange& exchange, ApiContext& api) {
    const auto excluded = exchange.query.all("exclude");
    std::string lines;
    bool healthy = true;
    for (const std::string_view name : kChecks) {
        if (std::find(excluded.begin(), excluded.end(), name) != excluded.end()) {
            lines += fmt::format("[+]{} excluded: ok\n", name);
        } else if (const auto result = check(name, api); result) {
            api.metrics.note_health(std::string(name), true);
            lines += fmt::format("[+]{} ok\n", name);
        } else {
            api.metrics.note_health(std::string(name), false);
            log().warn("healthz: {} failed: {}", name, result.error().message);
            lines += fmt::format("[-]{} failed: reason withheld\n", name);
            healthy = false;
        }
    }
    std::set<std::string> unknown;
    for (const std::string& name : excluded) {
        if (std::find(std::begin(kChecks), std::end(kChecks), name) == std::end(kChecks))
            unknown.insert(name);
    }
    if (!unknown.empty())
        lines += fmt::format("warn: some health checks cannot be excluded: no matches for \"{}\"\n",
                             fmt::join(unknown, "\",\""));
    if (!healthy) {
        (void)exchange.response.plain_error(500, lines + "healthz check failed", exchange.ctx);
        return;
    }
    const bool verbose = exchange.query.has("verbose");
    (void)exchange.response.text(200, verbose ? lines + "healthz check passed\n" : "ok", exchange.ctx,
                                 {{"X-Content-Type-Options", "nosniff"}});
}

void healthz_check(Exchange& exchange, ApiContext& api) {
    const std::string& name = exchange.param("check");
    if (std::find(std::begin(kChecks), std::end(kChecks), name) == std::end(kChecks)) {
        (void)exchange.response.text(404, "404: Page Not Found", exchange.ctx);
        return;
    }
    if (const auto result = check(name, api); !result) {
        (void)exchange.response.plain_error(500, "internal server error: " + result.error().message,
                                            exchange.ctx);
        return;
    }
    (void)exchange.response.text(200, "ok", exchange.ctx, {{"X-Content-Type-Options", "nosniff"}});
}

}  // namespace k8sgpu::kubelet_api::routes
