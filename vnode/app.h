// The composition root: builds the process from the options, in dependency order, and takes it down in
// reverse.
//
// Threads of its own: "startup", which waits for the API server and then starts the node; "shutdown", which
// takes everything down while main keeps the time; main waits for signals. main constructs it and calls
// run(), which returns the exit code.
#pragma once

#include <atomic>
#include <memory>
#include <string>

#include "common/guarded.h"
#include "common/metrics.h"
#include "common/thread.h"
#include "kube/api_client.h"
#include "kube/curl_transport.h"
#include "net/fd.h"
#include "vnode/health_server.h"
#include "vnode/options.h"
#include "vnode/reloader.h"
#include "vnode/virtual_node.h"

namespace k8sgpu::vnode {

class App {
  public:
    // `read_options` reads command line, environment and config file again.
    App(Command command, std::function<Result<Command>()> read_options, std::string version);
    ~App();

    // Blocks SIGTERM, SIGINT and SIGHUP for the whole process, starts everything and returns after one of the
    // first two, or after an error that only a person can mend (printed as one line; exit code 1). SIGHUP
    // looks for changed files. A second SIGTERM, or the end of --shutdown-grace-period, ends the process on
    // the spot with exit code 1: nothing is lost by it, a start after kill -9 finds its way as well.
    int run();

  private:
    Result<void> prepare();
    void wait_for_end(int signals);
    void take_down(int signals);
    std::vector<ReloadTarget> reload_targets();
    Result<void> reload_local(const CallContext& ctx);
    Result<void> reload_remote(const CallContext& ctx);
    Result<void> reload_options();
    void tell_reload(const std::string& what, const Result<void>& outcome);
    void start_node(std::stop_token stop);
    std::vector<HealthCheck> live_checks();
    std::vector<HealthCheck> ready_checks();
    Result<void> ask_node(Result<void> (VirtualNode::*question)() const) const;

    Command command_;  // as of the start
    Options& options_ = command_.options;
    std::function<Result<Command>()> read_options_;
    std::string version_;
    SystemClock clock_;
    MetricsRegistry metrics_;

    kube::ClientConfig local_config_;
    std::optional<kube::ClientConfig> remote_config_;
    std::unique_ptr<kube::CurlTransport> transport_;
    std::unique_ptr<kube::ApiClient> client_;
    std::unique_ptr<VirtualNode> node_;
    std::atomic<VirtualNode*> started_node_{nullptr};  // for the probes
    Guarded<std::string> waiting_for_;                 // what start-up waits for; shown by /readyz
    Guarded<std::optional<Error>> fatal_;
    Guarded<std::string> cluster_uid_;  // of the local cluster; "" until it has answered
    Guarded<Duration> shutdown_grace_;
    net::Fd end_event_;  // a fatal error, or the end of "shutdown"
    std::unique_ptr<Reloader> reloader_;
    std::unique_ptr<HealthServer> health_;
    Thread startup_;
    Thread shutdown_;
};

}  // namespace k8sgpu::vnode
