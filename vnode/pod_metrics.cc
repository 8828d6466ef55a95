#include "vnode/pod_metrics.h"

namespace k8sgpu::vnode {
namespace {

using prometheus::BuildCounter;
using prometheus::BuildGauge;
using prometheus::BuildHistogram;
using prometheus::Labels;

prometheus::Gauge& gauge(MetricsRegistry& registry, const Labels& labels, const char* name,
                         const char* help) {
    return BuildGauge().Name(name).Help(help).Labels(labels).Register(registry).Add({});
}

Labels of(const std::string& node_name, const std::string& provider_name) {
    return {{"node", node_name}, {"provider", provider_name}};
}

const prometheus::Histogram::BucketBoundaries kSeconds = {0.005, 0.01, 0.025, 0.05, 0.1, 0.25,
                                                          0.5,   1,    2.5,   5,    10,  30};

}  // namespace

PodMetrics::PodMetrics(MetricsRegistry& registry, const std::string& node_name,
                       const std::string& provider_name)
    : desired_(
          gauge(registry, of(node_name, provider_name), "kubelet_desired_pods", "Pods bound to this node.")),
      running_(
          gauge(registry, of(node_name, provider_name), "kubelet_running_pods", "Pods in phase Running.")),
      orphans_(gauge(registry, of(node_name, provider_name), "k8sgpu_orphan_pods",
                     "Copies at the provider whose local pod is gone; they are being removed.")),
      retrying_(gauge(registry, of(node_name, provider_name), "k8sgpu_retrying_pods",
                      "Pods whose last call of the provider failed.")),
      calls_(BuildCounter()
                 .Name("k8sgpu_provider_calls_total")
                 .Help("Calls of the provider by operation and outcome.")
                 .Labels(of(node_name, provider_name))
                 .Register(registry)),
      call_seconds_(BuildHistogram()
                        .Name("k8sgpu_provider_call_duration_seconds")
                        .Help("How long calls of the provider took.")
                        .Labels(of(node_name, provider_name))
                        .Register(registry)),
      status_writes_(BuildCounter()
                         .Name("k8sgpu_status_writes_total")
                         .Help("Writes of pod status to the local API server by outcome.")
                         .Labels(of(node_name, provider_name))
                         .Register(registry)),
      events_(BuildCounter()
                  .Name("k8sgpu_pod_events_total")
                  .Help("Decisions about pods that were told as Events, by reason.")
                  .Labels(of(node_name, provider_name))
                  .Register(registry)) {}

void PodMetrics::show(const PodController::Counts& counts) {
    desired_.Set(static_cast<double>(counts.desired));
    running_.Set(static_cast<double>(counts.running));
    orphans_.Set(static_cast<double>(counts.orphans));
    retrying_.Set(static_cast<double>(counts.retrying));
}

void PodMetrics::provider_call(const std::string& operation, bool succeeded, Duration took) {
    calls_.Add({{"operation", operation}, {"outcome", succeeded ? "success" : "error"}}).Increment();
    call_seconds_.Add({{"operation", operation}}, kSeconds)
        .Observe(std::chrono::duration<double>(took).count());
}

void PodMetrics::status_write(bool succeeded) {
    status_writes_.Add({{"outcome", succeeded ? "success" : "error"}}).Increment();
}

// Reasons come from our own code and from providers' fixed lists, so their number is bounded.
void PodMetrics::pod_event(const std::string& reason) {
    events_.Add({{"reason", reason}}).Increment();
}

}  // namespace k8sgpu::vnode
