// What pods and the node use: /stats/summary and the scrapes made of the same figures.
#include <fmt/format.h>

#include "kubelet_api/routes/routes.h"
#include "kubelet_api/scrape.h"
#include "kubelet_api/stats_metrics.h"
#include "kubelet_api/summary.h"

namespace k8sgpu::kubelet_api::routes {

void stats_summary(Exchange& exchange, ApiContext& api) {
    const auto only = exchange.query.all("only_cpu_and_memory");
    const CollectedStats stats = api.stats.collect(exchange.ctx);
    if (stats.failure) {
        (void)exchange.response.text(500, "Internal Error: " + stats.failure->message, exchange.ctx);
        return;
    }
    const bool brief = only.size() == 1 && only.front() == "true";
    (void)exchange.response.send(200, "application/json",
                                 dump_json(summary_json(stats, api.options.node_name, brief)), exchange.ctx);
}

// A failed source shows as a family of its own, so that the scrape itself succeeds with what is known.
void resource_metrics(Exchange& exchange, ApiContext& api) {
    answer_scrape(exchange, kubelet_api::resource_metrics(api.stats.collect(exchange.ctx)));
}

void cadvisor_metrics(Exchange& exchange, ApiContext& api) {
    answer_scrape(exchange, kubelet_api::cadvisor_metrics(api.stats.collect(exchange.ctx)));
}

}  // namespace k8sgpu::kubelet_api::routes
