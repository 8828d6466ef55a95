// /healthz and /readyz over plain HTTP (--health-probe-bind-address), as the probes of K8sGPU's chart expect.
//
// Liveness asks whether our threads still turn, readiness whether the node can do its job; both list their
// checks with ?verbose, and name the failing ones always. Owned by App; start() once, stop() idempotent,
// joins. One thread, "health", and cpp-httplib's workers.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "common/result.h"

namespace k8sgpu::vnode {

struct HealthCheck {
    std::string name;
    std::function<Result<void>()> check;  // any thread; must not block
};

class HealthServer {
  public:
    HealthServer(std::vector<HealthCheck> live, std::vector<HealthCheck> ready);
    ~HealthServer();

    // AlreadyExists when the port is taken. An empty host means all addresses; port 0 any free one.
    Result<void> start(const std::string& host, std::uint16_t port);
    std::uint16_t port() const;
    void stop();

  private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace k8sgpu::vnode
