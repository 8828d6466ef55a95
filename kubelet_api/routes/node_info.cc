#include "kubelet_api/routes/routes.h"

namespace k8sgpu::kubelet_api::routes {

void metrics(Exchange& exchange, ApiContext& api) {
    (void)exchange.response.send(200, "text/plain; version=0.0.4; charset=utf-8",
                                 render_metrics(api.registry), exchange.ctx);
}

void configz(Exchange& exchange, ApiContext& api) {
    Json config = api.options.configz.is_object() ? api.options.configz : Json::object();
    config["kind"] = "KubeletConfiguration";
    config["apiVersion"] = "kubelet.config.k8s.io/v1beta1";
    config["port"] = api.options.port;
    (void)exchange.response.send(200, "application/json", dump_json({{"kubeletconfig", std::move(config)}}),
                                 exchange.ctx);
}

// Texts of a kubelet with these handlers switched off; there is no host here that they could show.
void logs_disabled(Exchange& exchange, ApiContext& /*api*/) {
    (void)exchange.response.plain_error(405, "logs endpoint is disabled.", exchange.ctx);
}

void debug_disabled(Exchange& exchange, ApiContext& /*api*/) {
    (void)exchange.response.plain_error(405, "Debug endpoints are disabled.", exchange.ctx);
}

}  // namespace k8sgpu::kubelet_api::routes
