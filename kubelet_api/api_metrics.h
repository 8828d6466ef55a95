// What the API counts about itself; names as the kubelet's where it has them. Path labels are the root of the
// path only ("exec", "metrics/resource", …), "other" for unknown ones. Any thread.
#pragma once

#include <string>

#include "common/clock.h"
#include "common/metrics.h"

namespace k8sgpu::kubelet_api {

struct ApiMetrics {
    // As Prometheus' defaults, which the kubelet uses.
    static inline const prometheus::Histogram::BucketBoundaries kBuckets = {.005, .01, .025, .05, .1, .25,
                                                                            .5,   1,   2.5,  5,   10};

    explicit ApiMetrics(MetricsRegistry& registry)
        : requests(prometheus::BuildCounter()
                       .Name("kubelet_http_requests_total")
                       .Help("Requests answered, by method, root of the path and status code.")
                       .Register(registry)),
          inflight(prometheus::BuildGauge()
                       .Name("kubelet_http_inflight_requests")
                       .Help("Requests being answered, followed logs and stream sessions included.")
                       .Register(registry)),
          streams(prometheus::BuildGauge()
                      .Name("k8sgpu_api_stream_sessions")
                      .Help("Open exec, attach and port-forward sessions, by kind and protocol.")
                      .Register(registry)),
          connections(prometheus::BuildGauge()
                          .Name("k8sgpu_api_connections")
                          .Help("Open connections.")
                          .Register(registry)
                          .Add({})),
          seconds(prometheus::BuildHistogram()
                      .Name("kubelet_http_requests_duration_seconds")
                      .Help("Duration in seconds to serve http requests.")
                      .Register(registry)),
          healthcheck(prometheus::BuildGauge()
                          .Name("kubernetes_healthcheck")
                          .Help("The result of a single healthcheck: 1 healthy, 0 not.")
                          .Register(registry)),
          healthchecks(prometheus::BuildCounter()
                           .Name("kubernetes_healthchecks_total")
                           .Help("The results of all healthchecks.")
                           .Register(registry)),
          refused(prometheus::BuildCounter()
                      .Name("k8sgpu_api_refused_total")
                      .Help("Requests and connections refused, by reason.")
                      .Register(registry)) {}

    prometheus::Family<prometheus::Counter>& requests;
    prometheus::Family<prometheus::Gauge>& inflight;
    prometheus::Family<prometheus::Gauge>& streams;
    prometheus::Gauge& connections;
    prometheus::Family<prometheus::Histogram>& seconds;
    prometheus::Family<prometheus::Gauge>& healthcheck;  // shown by /metrics/slis
    prometheus::Family<prometheus::Counter>& healthchecks;
    prometheus::Family<prometheus::Counter>& refused;

    // `path`: as route_label() has it.
    void count_request(const std::string& method, const std::string& path, int status, Duration took = {}) {
        prometheus::Labels labels = labels_of(method, path);
        const std::chrono::duration<double> in_seconds = took;
        seconds.Add(labels, kBuckets).Observe(in_seconds.count());
        labels["code"] = std::to_string(status);
        requests.Add(labels).Increment();
    }
    static prometheus::Labels labels_of(const std::string& method, const std::string& path) {
        const bool lasts = path == "exec" || path == "attach" || path == "portForward" || path == "debug";
        return {{"method", method},
                {"path", path},
                {"server_type", "readwrite"},
                {"long_running", lasts ? "true" : "false"}};
    }
    void note_health(const std::string& name, bool healthy) {
        const prometheus::Labels labels = {{"name", name}, {"type", "healthz"}};
        healthcheck.Add(labels).Set(healthy ? 1 : 0);
        healthchecks.Add({{"name", name}, {"type", "healthz"}, {"status", healthy ? "success" : "error"}})
            .Increment();
    }
    void count_refused(const std::string& reason) { refused.Add({{"reason", reason}}).Increment(); }
};

}  // namespace k8sgpu::kubelet_api
