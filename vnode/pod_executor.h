// Runs the PodController for real: feeds it from the watch, the provider and the clock, and carries its
// intents out on threads. All policy is in the controller; here are only calls and queues.
//
// Threads: pod-work-<n> call the provider (may block for long), status-<n> write to the local API server,
// pod-loop delivers time, backend-poll lists the backend. The watch and the provider call in on threads of
// their own. Owned by App; start() once, stop() once (idempotent, joins). Everything passed in outlives it.
#pragma once

#include <functional>
#include <string>

#include "common/guarded.h"
#include "common/task_pool.h"
#include "common/thread.h"
#include "kube/api_client.h"
#include "kube/reflector.h"
#include "providers/port/provider.h"
#include "vnode/pod_controller.h"
#include "vnode/pod_metrics.h"

namespace k8sgpu::vnode {

struct PodExecutorOptions {
    PodControllerOptions controller;
    std::size_t work_threads = 8;
    std::size_t status_threads = 4;
    Duration backend_poll{30'000};
    Duration call_timeout{30'000};
};

// Where Events go (kube::EventRecorder); must not block.
using EventSink = std::function<void(const Json& pod, const std::string& type, const std::string& reason,
                                     const std::string& message)>;
// Told once a pod is surely gone or ended, so that its streams can be cut.
using PodGoneHook = std::function<void(const PodId&)>;

class PodExecutor final : public kube::ReflectorHandler, public providers::ProviderObserver {
  public:
    PodExecutor(PodExecutorOptions options, Clock& clock, kube::ApiClient& local,
                providers::Provider& provider, MetricsRegistry& metrics, EventSink events, PodGoneHook gone,
                std::function<void(bool, const std::string&)> reachable);
    ~PodExecutor() override { stop(); }

    void start();
    // Ends the provider's calls, then lets the status lane write what is known, until `flush_until`.
    void stop(SteadyTime flush_until = {});

    // Takes an event from wherever it comes; any thread, never blocks on the network.
    void dispatch(const PodEvent& event);

    kube::ObjectPtr find(const std::string& ns, const std::string& name) const {
        return controller_.lock()->find(ns, name);
    }
    std::vector<kube::ObjectPtr> list() const { return controller_.lock()->list(); }
    PodController::Counts counts() const { return controller_.lock()->counts(); }
    bool synced() const { return controller_.lock()->synced(); }
    // When pod-loop last ran; a liveness probe reads it.
    SteadyTime last_tick() const { return *last_tick_.lock(); }

    // kube::ReflectorHandler, on the watch's thread.
    void on_listed(std::vector<kube::ObjectPtr> objects) override;
    void on_applied(kube::ObjectPtr object) override;
    void on_deleted(kube::ObjectPtr object) override;
    void on_error(const Error& error) override;
    void on_recovered() override;

    // providers::ProviderObserver, on the provider's threads.
    void on_pod_changed(const providers::ObservedPod& pod) override;
    void on_pod_event(const PodId& pod, const std::string& type, const std::string& reason,
                      const std::string& message) override;
    void on_reachable_changed(bool reachable, const std::string& message) override;

  private:
    void carry_out(PodIntent intent);
    void run(const DoEnsure& intent, std::stop_token stop);
    void run(const DoUpdate& intent, std::stop_token stop);
    void run(const DoRemove& intent, std::stop_token stop);
    void run(const DoObserve& intent, std::stop_token stop);
    void run(const DoConfirmAbsent& intent, std::stop_token stop);
    void run(const WriteStatus& intent, std::stop_token stop);
    void run(const DeleteLocal& intent, std::stop_token stop);
    // The pod as the API server has it now; null when it surely has none of this UID on our node.
    Result<kube::ObjectPtr> find_live(const PodId& id, std::stop_token stop);
    void loop(std::stop_token stop);
    void poll_backend(std::stop_token stop);
    // Makes one call of the provider and counts it.
    template <typename Call>
    auto measured(const char* operation, Call call) {
        const SteadyTime began = clock_.now();
        auto outcome = call();
        metrics_.provider_call(operation, outcome.has_value(),
                               std::chrono::duration_cast<Duration>(clock_.now() - began));
        return outcome;
    }
    CallContext call(std::stop_token stop) const {
        return CallContext::with_timeout(clock_, options_.call_timeout, std::move(stop));
    }

    PodExecutorOptions options_;
    Clock& clock_;
    kube::ApiClient& local_;
    providers::Provider& provider_;
    EventSink events_;
    PodGoneHook gone_;
    std::function<void(bool, const std::string&)> reachable_;

    PodMetrics metrics_;
    Guarded<PodController> controller_;
    Guarded<SteadyTime> last_tick_;
    Guarded<bool> woken_;
    std::condition_variable_any wake_;

    TaskPool work_;
    TaskPool status_;
    Thread loop_;
    Thread poll_;
};

}  // namespace k8sgpu::vnode
