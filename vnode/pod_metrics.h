// What the pod executor counts: pods by state, calls of the provider, status writes. Names are the kubelet's
// where it has the same figure, else k8sgpu_…; no pod names in labels. Any thread; the registry outlives it.
#pragma once

#include <string>

#include "common/clock.h"
#include "common/metrics.h"
#include "common/result.h"
#include "vnode/pod_controller.h"

namespace k8sgpu::vnode {

class PodMetrics {
  public:
    PodMetrics(MetricsRegistry& registry, const std::string& node_name, const std::string& provider_name);

    void show(const PodController::Counts& counts);
    // `operation` is ensure, update, remove, observe or list.
    void provider_call(const std::string& operation, bool succeeded, Duration took);
    void status_write(bool succeeded);
    void pod_event(const std::string& reason);

  private:
    prometheus::Gauge& desired_;
    prometheus::Gauge& running_;
    prometheus::Gauge& orphans_;
    prometheus::Gauge& retrying_;
    prometheus::Family<prometheus::Counter>& calls_;
    prometheus::Family<prometheus::Histogram>& call_seconds_;
    prometheus::Family<prometheus::Counter>& status_writes_;
    prometheus::Family<prometheus::Counter>& events_;
};

}  // namespace k8sgpu::vnode
