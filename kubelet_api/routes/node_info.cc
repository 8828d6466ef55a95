#include <fmt/format.h>

#include <charconv>

#include "kubelet_api/pod_containers.h"
#include "kubelet_api/routes/routes.h"

namespace k8sgpu::kubelet_api::routes {

void configz(Exchange& exchange, ApiContext& api) {
    Json config = api.options.configz.is_object() ? api.options.configz : Json::object();
    config["kind"] = "KubeletConfiguration";
    config["apiVersion"] = "kubelet.config.k8s.io/v1beta1";
    config["port"] = api.options.port;
    (void)exchange.response.send(200, "application/json", dump_json({{"kubeletconfig", std::move(config)}}),
                                 exchange.ctx);
}

// The kubelet's checks and texts; no provider can freeze a container yet, and the answer says so.
void checkpoint(Exchange& exchange, ApiContext& api) {
    const auto answer = [&](int status, std::string_view text) {
        (void)exchange.response.text(status, text, exchange.ctx);
    };
    const std::string& ns = exchange.param("ns");
    const std::string& pod = exchange.param("pod");
    const std::string& container = exchange.param("container");
    const auto view = api.pods.find(ns, pod);
    if (!view) return answer(404, "pod does not exist");
    if (!has_container(*view->pod, container))
        return answer(404, fmt::format("container {} does not exist", container));
    if (const auto timeouts = exchange.query.all("timeout"); !timeouts.empty()) {
        const std::string& text = timeouts.back();
        std::int64_t seconds = 0;
        const auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), seconds);
        if (status != std::errc() || end != text.data() + text.size())
            return answer(404, "cannot parse value of timeout parameter");
    }
    answer(500, fmt::format("checkpointing of {}/{}/{} failed (provider {} does not support it)", ns, pod,
                            container, view->provider->name()));
}

// Texts of a kubelet with these handlers switched off; there is no host here that they could show.
void logs_disabled(Exchange& exchange, ApiContext& /*api*/) {
    (void)exchange.response.plain_error(405, "logs endpoint is disabled.", exchange.ctx);
}

void debug_disabled(Exchange& exchange, ApiContext& /*api*/) {
    (void)exchange.response.plain_error(405, "Debug endpoints are disabled.", exchange.ctx);
}

}  // namespace k8sgpu::kubelet_api::routes
