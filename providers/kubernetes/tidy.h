// The provider's slow second thread: finds out about pods that left the watch unasked, and collects copies of
// ConfigMaps and Secrets that no pod uses any more. Decides nothing itself: both jobs are functions of the
// owner, called on the thread "remote-tidy" and repeated after a pause until they succeed.
//
// Owned by the provider; request methods from any thread. stop() joins.
#pragma once

#include <condition_variable>
#include <functional>
#include <map>
#include <string>

#include "common/call_context.h"
#include "common/guarded.h"
#include "common/thread.h"
#include "providers/kubernetes/remote_pods.h"

namespace k8sgpu::providers::kubernetes {

struct TidyOptions {
    Duration collect_after{5'000};    // after the last pod that went: a Job's pods go together
    Duration collect_every{600'000};  // in any case, for what a crash left behind
    Duration verify_again{30'000};    // while a pod's fate is not clear
    Duration call_timeout{30'000};
};

class Tidy {
  public:
    // True: settled. False or an error: asked again after a pause.
    using Verify = std::function<Result<bool>(const RemotePod& pod, const CallContext& ctx)>;
    using Collect = std::function<Result<void>(const CallContext& ctx)>;

    Tidy(Clock& clock, TidyOptions options, Verify verify, Collect collect)
        : clock_(clock), options_(options), verify_(std::move(verify)), collect_(std::move(collect)) {}
    ~Tidy() { stop(); }

    void start();
    void stop() { thread_.stop(); }

    void request_verify(RemotePod pod);
    void request_collect();

  private:
    struct Pending {
        RemotePod pod;
        SteadyTime due;
    };
    struct State {
        std::map<std::string, Pending> unclear;  // by local UID
        SteadyTime collect_due;
        bool poked = false;
    };

    void run(std::stop_token stop);
    void verify_due(const std::stop_token& stop);
    void collect_due(const std::stop_token& stop);
    SteadyTime next_due(const State& state) const;

    Clock& clock_;
    const TidyOptions options_;
    const Verify verify_;
    const Collect collect_;
    Guarded<State> state_;
    std::condition_variable_any poked_;
    Thread thread_;
};

}  // namespace k8sgpu::providers::kubernetes
