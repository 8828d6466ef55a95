// What this program says about itself. The registry holds everything; prober_* and kubernetes_healthcheck*
// have paths of their own, as at the kubelet.
#include <prometheus/text_serializer.h>

#include "kubelet_api/metrics_text.h"
#include "kubelet_api/own_process.h"
#include "kubelet_api/pod_containers.h"
#include "kubelet_api/routes/routes.h"
#include "kubelet_api/scrape.h"

namespace k8sgpu::kubelet_api::routes {

namespace {

constexpr std::string_view kProbes = "prober_";
constexpr std::string_view kHealth = "kubernetes_healthcheck";

template <typename Wanted>
std::string render(const MetricsRegistry& registry, Wanted wanted) {
    std::vector<prometheus::MetricFamily> families = registry.Collect();
    std::erase_if(families, [&](const prometheus::MetricFamily& family) {
        return family.metric.empty() || !wanted(std::string_view(family.name));
    });
    return prometheus::TextSerializer().Serialize(families);
}

// Names of Go's process collector, which dashboards know.
void add_process(MetricsText& text) {
    const OwnProcess own = read_own_process();
    text.add("process_cpu_seconds_total", "counter", "Total user and system CPU time spent in seconds.", {},
             static_cast<double>(own.user_nano_seconds + own.system_nano_seconds) / 1e9);
    const auto gauge = [&](const char* name, const char* help, const std::optional<std::uint64_t>& figure) {
        if (figure) text.add(name, "gauge", help, {}, static_cast<double>(*figure));
    };
    gauge("process_resident_memory_bytes", "Resident memory size in bytes.", own.resident_bytes);
    gauge("process_virtual_memory_bytes", "Virtual memory size in bytes.", own.virtual_bytes);
    gauge("process_open_fds", "Number of open file descriptors.", own.open_files);
    gauge("process_max_fds", "Maximum number of open file descriptors.", own.max_files);
    gauge("process_threads", "Number of threads.", own.threads);
    if (own.start_time)
        text.add("process_start_time_seconds", "gauge",
                 "Start time of the process since unix epoch in seconds.", {},
                 std::chrono::duration<double>(own.start_time->time_since_epoch()).count());
}

void add_containers(MetricsText& text, const PodLookup& pods) {
    double running = 0;
    double created = 0;
    double exited = 0;
    for (const PodView& view : pods.list()) {
        for (const char* list :
             {"initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses"}) {
            for (const Json& status : array_at(*view.pod, {"status", list})) {
                if (at(status, {"state", "running"}).is_object()) ++running;
                if (at(status, {"state", "waiting"}).is_object()) ++created;
                if (at(status, {"state", "terminated"}).is_object()) ++exited;
            }
        }
    }
    const char* name = "kubelet_running_containers";
    const char* help = "Number of containers currently running";
    text.add(name, "gauge", help, {{"container_state", "created"}}, created);
    text.add(name, "gauge", help, {{"container_state", "exited"}}, exited);
    text.add(name, "gauge", help, {{"container_state", "running"}}, running);
}

}  // namespace

void metrics(Exchange& exchange, ApiContext& api) {
    MetricsText text;
    add_process(text);
    add_containers(text, api.pods);
    answer_scrape(exchange, render(api.registry, [](std::string_view name) {
                                return !name.starts_with(kProbes) && !name.starts_with(kHealth);
                            }) + text.text());
}

void metrics_probes(Exchange& exchange, ApiContext& api) {
    answer_scrape(exchange,
                  render(api.registry, [](std::string_view name) { return name.starts_with(kProbes); }));
}

void metrics_slis(Exchange& exchange, ApiContext& api) {
    answer_scrape(exchange,
                  render(api.registry, [](std::string_view name) { return name.starts_with(kHealth); }));
}

}  // namespace k8sgpu::kubelet_api::routes
