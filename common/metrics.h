// Metrics: each component has one struct of its own, built from the registry that main owns. prometheus-cpp
// does the exposition. Names follow the kubelet's manner; no pod names in labels. Any thread.
#pragma once

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>

#include <memory>
#include <string>

namespace k8sgpu {

using MetricsRegistry = prometheus::Registry;

// Prometheus text format 0.0.4 of everything registered.
std::string render_metrics(const MetricsRegistry& registry);

}  // namespace k8sgpu
