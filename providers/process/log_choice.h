// Which run of a container a log request means, and what to answer when there is none: the table of
// kubelet-contract §1.6. Pure; any thread.
#pragma once

#include <string>

#include "providers/port/logs.h"
#include "providers/process/pod_store.h"

namespace k8sgpu::providers::process {

// The number of the run. NotFound (no such container) and Invalid (a state without a log) carry the kubelet's
// texts.
Result<int> choose_run(const PodTrace& trace, const LogRequest& request);

// True when nothing will be added to this run's log.
bool run_is_over(const PodTrace& trace, const std::string& container, int run);

}  // namespace k8sgpu::providers::process
