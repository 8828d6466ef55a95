#include "vnode/kubelet_config.h"

namespace k8sgpu::vnode {

Json kubelet_config(const Options& options) {
    Json config = {
        {"enableServer", true},
        {"enableDebuggingHandlers", true},
        {"enableProfilingHandler", false},
        {"enableDebugFlagsHandler", false},
        {"enableSystemLogHandler", false},
        {"address", options.listen_address.empty() ? "0.0.0.0" : options.listen_address},
        {"readOnlyPort", 0},
        {"serverTLSBootstrap", true},
        {"rotateCertificates", true},
        {"tlsMinVersion", options.tls_min_version},
        {"authentication",
         {{"anonymous", {{"enabled", false}}}, {"webhook", {{"enabled", true}, {"cacheTTL", "2m0s"}}}}},
        {"authorization",
         {{"mode", "Webhook"},
          {"webhook", {{"cacheAuthorizedTTL", "5m0s"}, {"cacheUnauthorizedTTL", "30s"}}}}},
        {"registerNode", true},
        {"registerWithTaints", Json::array()},
        {"nodeStatusUpdateFrequency", "10s"},
        {"nodeStatusReportFrequency", "5m0s"},
        {"nodeLeaseDurationSeconds", 40},
        {"streamingConnectionIdleTimeout", "4h0m0s"},
    };
    if (const auto pods = options.capacity.find("pods"); pods != options.capacity.end()) {
        const auto count = Json::parse(pods->second, nullptr, false);
        if (count.is_number_unsigned()) config["maxPods"] = count;
    }
    if (!options.client_ca_file.empty())
        config["authentication"]["x509"] = {{"clientCAFile", options.client_ca_file}};
    for (std::string_view rest = options.tls_cipher_suites; !rest.empty();) {
        const std::string_view one = rest.substr(0, rest.find(','));
        rest.remove_prefix(std::min(rest.size(), one.size() + 1));
        config["tlsCipherSuites"].push_back(one);
    }
    for (const Taint& taint : options.taints) {
        Json json = {{"key", taint.key}, {"effect", taint.effect}};
        if (!taint.value.empty()) json["value"] = taint.value;
        config["registerWithTaints"].push_back(std::move(json));
    }
    return config;
}

}  // namespace k8sgpu::vnode
