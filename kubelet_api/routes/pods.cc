#include "kubelet_api/pod_containers.h"
#include "kubelet_api/routes/routes.h"

namespace k8sgpu::kubelet_api::routes {

namespace {

Json pod_list(Json items) {
    return {
        {"kind", "PodList"}, {"apiVersion", "v1"}, {"metadata", Json::object()}, {"items", std::move(items)}};
}

void answer(Exchange& exchange, const Json& json) {
    (void)exchange.response.send(200, "application/json", dump_json(json), exchange.ctx);
}

}  // namespace

void pods(Exchange& exchange, ApiContext& api) {
    Json items = Json::array();
    for (const PodView& view : api.pods.list()) items.push_back(*view.pod);
    answer(exchange, pod_list(std::move(items)));
}

// What runs, and no more of it than a runtime would know.
void running_pods(Exchange& exchange, ApiContext& api) {
    Json items = Json::array();
    for (const PodView& view : api.pods.list()) {
        Json containers = Json::array();
        for (const char* list : {"initContainers", "containers", "ephemeralContainers"}) {
            for (const Json& container : array_at(*view.pod, {"spec", list})) {
                const std::string name = string_at(container, {"name"});
                if (!is_running(*view.pod, name)) continue;
                containers.push_back({{"name", name},
                                      {"image", string_at(container, {"image"})},
                                      {"resources", Json::object()}});
            }
        }
        if (containers.empty()) continue;
        items.push_back({{"metadata",
                          {{"name", view.id.name},
                           {"namespace", view.id.ns},
                           {"uid", view.id.uid},
                           {"creationTimestamp", nullptr}}},
                         {"spec", {{"containers", std::move(containers)}}},
                         {"status", Json::object()}});
    }
    answer(exchange, pod_list(std::move(items)));
}

}  // namespace k8sgpu::kubelet_api::routes
