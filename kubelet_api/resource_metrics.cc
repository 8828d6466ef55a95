#include <algorithm>

#include "kubelet_api/metrics_text.h"
#include "kubelet_api/stats_metrics.h"

namespace k8sgpu::kubelet_api {

namespace {

constexpr std::uint64_t kPage = 4096;

class Writer {
  public:
    // `whose`: "node", "container" or "pod".
    template <typename Stats>
    void use(const std::string& whose, const Labels& labels, const Stats& stats) {
        if (stats.cpu && stats.cpu->usage_core_nano_seconds) {
            const auto nanos = std::max<std::uint64_t>(1, *stats.cpu->usage_core_nano_seconds);
            text.add(whose + "_cpu_usage_seconds_total", "counter",
                     "[STABLE] Cumulative cpu time consumed by the " + whose + " in core-seconds", labels,
                     static_cast<double>(nanos) / 1e9, stats.cpu->time);
        }
        if (!stats.memory) return;
        if (stats.memory->working_set_bytes) {
            text.add(whose + "_memory_working_set_bytes", "gauge",
                     "[STABLE] Current working set of the " + whose + " in bytes", labels,
                     static_cast<double>(std::max(kPage, *stats.memory->working_set_bytes)),
                     stats.memory->time);
        }
        if (stats.memory->swap_bytes) {
            text.add(whose + "_swap_usage_bytes", "gauge",
                     "[ALPHA] Current swap usage of the " + whose +
                         " in bytes. Reported only on non-windows systems",
                     labels, static_cast<double>(*stats.memory->swap_bytes), stats.memory->time);
        }
    }
    MetricsText text;
};

}  // namespace

std::string resource_metrics(const CollectedStats& stats) {
    Writer writer;
    writer.use("node", {}, stats.node);
    for (const MeasuredPod& one : stats.pods) {
        const providers::PodStats& pod = one.stats;
        for (const providers::ContainerStats& container : pod.containers) {
            const Labels labels = {
                {"container", container.name}, {"namespace", pod.id.ns}, {"pod", pod.id.name}};
            if (container.start_time) {
                const std::chrono::nanoseconds start = container.start_time->time_since_epoch();
                writer.text.add("container_start_time_seconds", "gauge",
                                "[STABLE] Start time of the container since unix epoch in seconds", labels,
                                static_cast<double>(start.count()) / 1e9);
            }
            writer.use("container", labels, container);
        }
        writer.use("pod", {{"namespace", pod.id.ns}, {"pod", pod.id.name}}, pod);
    }
    const double failed = stats.failure ? 1 : 0;
    writer.text.add("resource_scrape_error", "gauge",
                    "[STABLE] 1 if there was an error while getting container metrics, 0 otherwise", {},
                    failed);
    writer.text.add(
        "scrape_error", "gauge",
        "[ALPHA] (Deprecated since 1.29.0) 1 if there was an error while getting container metrics, 0 "
        "otherwise",
        {}, failed);
    return writer.text.text();
}

}  // namespace k8sgpu::kubelet_api
