// Runs `k8sgpu drain` and `k8sgpu uninstall`: makes the clients that they need from the options, writes their
// lines to standard output and error, and returns the exit code. Called by main; no thread but kube-io.
#pragma once

#include "vnode/options.h"

namespace k8sgpu::vnode {

// 0: done. 1: not done, and one line on standard error says why.
int run_drain(const Options& options);
int run_uninstall(const Options& options);

}  // namespace k8sgpu::vnode
