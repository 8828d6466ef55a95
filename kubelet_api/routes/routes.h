// The handlers of the API, one file per subject; router.cc binds them to paths.
#pragma once

#include "kubelet_api/exchange.h"

namespace k8sgpu::kubelet_api::routes {

void healthz(Exchange& exchange, ApiContext& api);        // health.cc
void healthz_check(Exchange& exchange, ApiContext& api);  // {check}
void pods(Exchange& exchange, ApiContext& api);           // pods.cc
void running_pods(Exchange& exchange, ApiContext& api);
void metrics(Exchange& exchange, ApiContext& api);  // metrics.cc
void metrics_probes(Exchange& exchange, ApiContext& api);
void metrics_slis(Exchange& exchange, ApiContext& api);
void stats_summary(Exchange& exchange, ApiContext& api);  // stats.cc
void resource_metrics(Exchange& exchange, ApiContext& api);
void cadvisor_metrics(Exchange& exchange, ApiContext& api);
void configz(Exchange& exchange, ApiContext& api);     // node_info.cc
void checkpoint(Exchange& exchange, ApiContext& api);  // {ns} {pod} {container}
void logs_disabled(Exchange& exchange, ApiContext& api);
void debug_disabled(Exchange& exchange, ApiContext& api);
void container_logs(Exchange& exchange, ApiContext& api);  // logs.cc: {ns} {pod} {container}
void run(Exchange& exchange, ApiContext& api);             // run.cc: {ns} {pod} {container} [{uid}]
void exec(Exchange& exchange, ApiContext& api);            // exec.cc: {ns} {pod} {container} [{uid}]
void attach(Exchange& exchange, ApiContext& api);
void port_forward(Exchange& exchange, ApiContext& api);  // port_forward.cc: {ns} {pod} [{uid}]

}  // namespace k8sgpu::kubelet_api::routes
