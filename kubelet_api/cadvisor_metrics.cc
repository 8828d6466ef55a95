#include <algorithm>

#include "kubelet_api/metrics_text.h"
#include "kubelet_api/pod_containers.h"
#include "kubelet_api/stats_metrics.h"

namespace k8sgpu::kubelet_api {

namespace {

using Figure = std::optional<std::uint64_t>;

// One series' labels and where it goes. cAdvisor puts the same six labels on every series, empty where they
// do not apply.
class Series {
  public:
    Series(MetricsText& text, Labels labels) : text_(text), labels_(std::move(labels)) {}

    void counter(const char* name, const char* help, Figure figure, WallTime time, double unit = 1,
                 const Labels& more = {}) {
        add(name, "counter", help, figure, time, unit, more);
    }
    void gauge(const char* name, const char* help, Figure figure, WallTime time, double unit = 1,
               const Labels& more = {}) {
        add(name, "gauge", help, figure, time, unit, more);
    }

  private:
    void add(const char* name, const char* type, const char* help, Figure figure, WallTime time, double unit,
             const Labels& more) {
        if (!figure) return;
        Labels labels = labels_;
        labels.insert(labels.end(), more.begin(), more.end());
        text_.add(name, type, help, labels, static_cast<double>(*figure) / unit, time);
    }

    MetricsText& text_;
    Labels labels_;
};

constexpr double kNanos = 1e9;

void add_cpu(Series& series, const providers::CpuStats& cpu) {
    series.counter("container_cpu_usage_seconds_total", "Cumulative cpu time consumed in seconds.",
                   cpu.usage_core_nano_seconds, cpu.time, kNanos, {{"cpu", "total"}});
    series.counter("container_cpu_user_seconds_total", "Cumulative user cpu time consumed in seconds.",
                   cpu.user_nano_seconds, cpu.time, kNanos);
    series.counter("container_cpu_system_seconds_total", "Cumulative system cpu time consumed in seconds.",
                   cpu.system_nano_seconds, cpu.time, kNanos);
}

void add_memory(Series& series, const providers::MemoryStats& memory) {
    series.gauge("container_memory_usage_bytes",
                 "Current memory usage in bytes, including all memory regardless of when it was accessed",
                 memory.usage_bytes, memory.time);
    series.gauge("container_memory_working_set_bytes", "Current working set in bytes.",
                 memory.working_set_bytes, memory.time);
    series.gauge("container_memory_rss", "Size of RSS in bytes.", memory.rss_bytes, memory.time);
    series.gauge("container_memory_cache", "Number of bytes of page cache memory.", memory.cache_bytes,
                 memory.time);
    series.gauge("container_memory_mapped_file", "Size of memory mapped files in bytes.",
                 memory.mapped_file_bytes, memory.time);
    series.gauge("container_memory_swap", "Container swap usage in bytes.", memory.swap_bytes, memory.time);
    const auto failures = [&](const char* kind, Figure figure) {
        series.counter("container_memory_failures_total", "Cumulative count of memory allocation failures.",
                       figure, memory.time, 1, {{"failure_type", kind}, {"scope", "container"}});
    };
    failures("pgfault", memory.page_faults);
    failures("pgmajfault", memory.major_page_faults);
}

void add_io(Series& series, const providers::IoStats& io) {
    const Labels device = {{"device", ""}};
    series.counter("container_fs_reads_bytes_total", "Cumulative count of bytes read", io.read_bytes, io.time,
                   1, device);
    series.counter("container_fs_writes_bytes_total", "Cumulative count of bytes written", io.written_bytes,
                   io.time, 1, device);
    series.counter("container_fs_reads_total", "Cumulative count of reads completed", io.read_operations,
                   io.time, 1, device);
    series.counter("container_fs_writes_total", "Cumulative count of writes completed", io.write_operations,
                   io.time, 1, device);
}

void add_processes(Series& series, const providers::ProcessStats& process) {
    series.gauge("container_processes", "Number of processes running inside the container.",
                 process.processes, process.time);
    series.gauge("container_threads", "Number of threads running inside the container", process.threads,
                 process.time);
    series.gauge("container_file_descriptors", "Number of open file descriptors for the container.",
                 process.file_descriptors, process.time);
    series.gauge("container_sockets", "Number of open sockets for the container.", process.sockets,
                 process.time);
}

void add_file_system(Series& series, const providers::FileSystemStats& fs) {
    const Labels device = {{"device", ""}};
    series.gauge("container_fs_usage_bytes",
                 "Number of bytes that are consumed by the container on this filesystem.", fs.used_bytes,
                 fs.time, 1, device);
    series.gauge("container_fs_limit_bytes",
                 "Number of bytes that can be consumed by the container on this filesystem.",
                 fs.capacity_bytes, fs.time, 1, device);
    series.gauge("container_fs_inodes_free", "Number of available Inodes", fs.inodes_free, fs.time, 1,
                 device);
    series.gauge("container_fs_inodes_total", "Number of Inodes", fs.inodes, fs.time, 1, device);
}

void add_network(Series& series, const providers::NetworkStats& network) {
    for (const auto& one : network.interfaces) {
        const Labels name = {{"interface", one.name}};
        const auto add = [&](const char* metric, const char* help, Figure figure) {
            series.counter(metric, help, figure, network.time, 1, name);
        };
        add("container_network_receive_bytes_total", "Cumulative count of bytes received", one.rx_bytes);
        add("container_network_receive_packets_total", "Cumulative count of packets received",
            one.rx_packets);
        add("container_network_receive_errors_total",
            "Cumulative count of errors encountered while receiving", one.rx_errors);
        add("container_network_receive_packets_dropped_total",
            "Cumulative count of packets dropped while receiving", one.rx_dropped);
        add("container_network_transmit_bytes_total", "Cumulative count of bytes transmitted", one.tx_bytes);
        add("container_network_transmit_packets_total", "Cumulative count of packets transmitted",
            one.tx_packets);
        add("container_network_transmit_errors_total",
            "Cumulative count of errors encountered while transmitting", one.tx_errors);
        add("container_network_transmit_packets_dropped_total",
            "Cumulative count of packets dropped while transmitting", one.tx_dropped);
    }
}

std::uint64_t seconds_of(WallTime time) {
    const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(time.time_since_epoch()).count();
    return static_cast<std::uint64_t>(std::max<std::int64_t>(0, seconds));
}

void add_times(Series& series, const std::optional<WallTime>& start, WallTime seen) {
    if (start)
        series.gauge("container_start_time_seconds",
                     "Start time of the container since unix epoch in seconds.", seconds_of(*start), seen);
    series.gauge("container_last_seen", "Last time a container was seen by the exporter", seconds_of(seen),
                 seen);
}

// "containerd://6f3a…" → "6f3a…"
std::string bare_id(const std::string& id) {
    const auto scheme = id.find("://");
    return scheme == std::string::npos ? id : id.substr(scheme + 3);
}

std::string image_of(const Json& pod, const std::string& container) {
    const std::string image = string_at(container_status(pod, container), {"image"});
    if (!image.empty()) return image;
    for (const char* list : {"containers", "initContainers", "ephemeralContainers"}) {
        for (const Json& one : array_at(pod, {"spec", list})) {
            if (string_at(one, {"name"}) == container) return string_at(one, {"image"});
        }
    }
    return {};
}

Labels labels_of(const std::string& container, const std::string& id, const std::string& image,
                 const std::string& name, const PodId& pod) {
    return {{"container", container}, {"id", id},       {"image", image}, {"name", name},
            {"namespace", pod.ns},    {"pod", pod.name}};
}

template <typename Stats>
void add_cpu_and_memory(Series& series, const Stats& stats) {
    if (stats.cpu) add_cpu(series, *stats.cpu);
    if (stats.memory) add_memory(series, *stats.memory);
}

void add_pod(MetricsText& text, const MeasuredPod& one, WallTime seen) {
    const providers::PodStats& pod = one.stats;
    const std::string pod_id = "/kubepods/pod" + pod.id.uid;
    for (const providers::ContainerStats& container : pod.containers) {
        const std::string id =
            bare_id(string_at(container_status(*one.pod, container.name), {"containerID"}));
        Series series(text, labels_of(container.name, pod_id + "/" + (id.empty() ? container.name : id),
                                      image_of(*one.pod, container.name), id, pod.id));
        add_cpu_and_memory(series, container);
        if (container.io) add_io(series, *container.io);
        if (container.process) add_processes(series, *container.process);
        if (container.root_fs) add_file_system(series, *container.root_fs);
        series.counter("container_oom_events_total",
                       "Count of out of memory events observed for the container", container.oom_events,
                       seen);
        add_times(series, container.start_time, seen);
    }
    Series series(text, labels_of("", pod_id, "", "", pod.id));
    add_cpu_and_memory(series, pod);
    if (pod.process) add_processes(series, *pod.process);
    if (pod.network) add_network(series, *pod.network);
    add_times(series, pod.start_time, seen);
}

}  // namespace

std::string cadvisor_metrics(const CollectedStats& stats) {
    MetricsText text;
    Series node(text, labels_of("", "/", "", "", {}));
    add_cpu_and_memory(node, stats.node);
    if (stats.node.network) add_network(node, *stats.node.network);
    if (stats.node.fs) add_file_system(node, *stats.node.fs);
    for (const MeasuredPod& pod : stats.pods) add_pod(text, pod, stats.time);
    text.add("container_scrape_error", "gauge",
             "1 if there was an error while getting container metrics, 0 otherwise", {},
             stats.failure ? 1 : 0);
    return text.text();
}

}  // namespace k8sgpu::kubelet_api
