// Takes changed files into use while we run: kubeconfigs and the config file. Looks every two seconds, and at
// once when SIGHUP asks; what is broken leaves the old one in use and is said in log, Event and metric.
//
// One thread, "reload". Owned by App; start() once, stop() idempotent, joins. Tokens, keys and authorities
// that a kubeconfig names as files are no concern of ours: kube/credentials.h reads them again by itself.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "common/call_context.h"
#include "common/guarded.h"
#include "common/metrics.h"
#include "common/thread.h"
#include "vnode/file_watch.h"

namespace k8sgpu::vnode {

struct ReloadTarget {
    std::string what;  // "remote-kubeconfig", as the option that names the file
    std::vector<std::string> files;
    // Reads the files and takes them into use, or fails and changes nothing. A retryable error (the new
    // server does not answer now) is tried again at each look.
    std::function<Result<void>(const CallContext&)> apply;
};

// Told the outcome of each attempt that is news; message in words for a person.
using ReloadReport = std::function<void(const std::string& what, const Result<void>& outcome)>;

class Reloader {
  public:
    Reloader(Clock& clock, MetricsRegistry& metrics, std::vector<ReloadTarget> targets, ReloadReport report);
    ~Reloader() { stop(); }

    void start();
    void stop() { thread_.stop(); }
    // Applies everything again, changed or not; any thread.
    void force();
    // One look, as the thread makes it.
    void look(bool forced, std::stop_token stop);

  private:
    struct Watched {
        ReloadTarget target;
        FileWatch files;
        bool retry = false;
        std::string told;
    };

    Clock& clock_;
    prometheus::Family<prometheus::Counter>& reloads_;
    std::vector<Watched> watched_;
    ReloadReport report_;
    Guarded<bool> forced_;
    std::condition_variable_any wake_;
    Thread thread_;
};

}  // namespace k8sgpu::vnode
