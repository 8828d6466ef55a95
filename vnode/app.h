// The composition root: builds the process from the options, in dependency order, and takes it down in
// reverse.
//
// Threads of its own: "startup", which waits for the API server and then starts the node; main waits for
// signals. main constructs it and calls run(), which returns the exit code.
#pragma once

#include <atomic>
#include <memory>
#include <string>

#include "common/guarded.h"
#include "common/metrics.h"
#include "common/thread.h"
#include "kube/api_client.h"
#include "net/fd.h"
#include "vnode/health_server.h"
#include "vnode/options.h"
#include "vnode/virtual_node.h"

namespace k8sgpu::vnode {

class App {
  public:
    App(Options options, std::string version);
    ~App();

    // Blocks SIGTERM and SIGINT for the whole process, starts everything and returns after one of them, or
    // after an error that only a person can mend (printed as one line; exit code 1).
    int run();

  private:
    Result<void> prepare();
    void start_node(std::stop_token stop);
    std::vector<HealthCheck> live_checks();
    std::vector<HealthCheck> ready_checks();
    Result<void> ask_node(Result<void> (VirtualNode::*question)() const) const;

    Options options_;
    std::string version_;
    SystemClock clock_;
    MetricsRegistry metrics_;

    kube::ClientConfig local_config_;
    std::optional<kube::ClientConfig> remote_config_;
    std::unique_ptr<kube::Transport> transport_;
    std::unique_ptr<kube::ApiClient> client_;
    std::unique_ptr<VirtualNode> node_;
    std::atomic<VirtualNode*> started_node_{nullptr};  // for the probes
    Guarded<std::string> waiting_for_;                 // what start-up waits for; shown by /readyz
    Guarded<std::optional<Error>> fatal_;
    net::Fd fatal_event_;
    std::unique_ptr<HealthServer> health_;
    Thread startup_;
};

}  // namespace k8sgpu::vnode
