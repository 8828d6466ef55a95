// The answer of GET /stats/summary, stats.kubelet.io/v1alpha1: only figures that are known. Pure; any thread.
#pragma once

#include <string>

#include "common/json.h"
#include "kubelet_api/stats_collector.h"

namespace k8sgpu::kubelet_api {

// `only_cpu_and_memory` drops network, file systems and process counts.
Json summary_json(const CollectedStats& stats, const std::string& node_name, bool only_cpu_and_memory);

}  // namespace k8sgpu::kubelet_api
