// What the API counts about itself; names as the kubelet's where it has them. Path labels are the root of the
// path only ("exec", "containerLogs", …), "other" for unknown ones. Any thread.
#pragma once

#include <string>

#include "common/metrics.h"

namespace k8sgpu::kubelet_api {

struct ApiMetrics {
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
          refused(prometheus::BuildCounter()
                      .Name("k8sgpu_api_refused_total")
                      .Help("Requests and connections refused, by reason.")
                      .Register(registry)) {}

    prometheus::Family<prometheus::Counter>& requests;
    prometheus::Family<prometheus::Gauge>& inflight;
    prometheus::Family<prometheus::Gauge>& streams;
    prometheus::Gauge& connections;
    prometheus::Family<prometheus::Counter>& refused;

    void count_request(const std::string& method, const std::string& root, int status) {
        requests.Add({{"method", method}, {"path", root}, {"code", std::to_string(status)}}).Increment();
    }
    void count_refused(const std::string& reason) { refused.Add({{"reason", reason}}).Increment(); }
};

}  // namespace k8sgpu::kubelet_api
