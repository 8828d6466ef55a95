#include "providers/kubernetes/provider.h"

#include <fmt/format.h>

#include <atomic>

#include "common/log.h"
#include "kube/object.h"
#include "kube/quantity.h"
#include "kube/reflector.h"
#include "providers/kubernetes/exec.h"
#include "providers/kubernetes/forwarding.h"
#include "providers/kubernetes/logs.h"
#include "providers/kubernetes/port_forward.h"
#include "providers/kubernetes/quota.h"
#include "providers/kubernetes/remote_calls.h"
#include "providers/kubernetes/remote_events.h"
#include "providers/kubernetes/running_changes.h"
#include "providers/kubernetes/stats.h"
#include "providers/kubernetes/status_map.h"
#include "providers/kubernetes/tidy.h"

namespace k8sgpu::providers {

using namespace kubernetes;

namespace {

std::string why_unreachable(const Error& error) {
    switch (error.kind) {
        case ErrorKind::Unauthorized:
            return "the remote cluster refuses our credentials (expired or revoked?): " + error.message;
        case ErrorKind::Forbidden:
            return "the remote Role does not allow what we need (see manifests/tenant-role.yaml): " +
                   error.message;
        case ErrorKind::TlsFailure:
            return "no trusted connection to the remote cluster (wrong CA, or certificate expired?): " +
                   error.message;
        default:
            return "the remote cluster does not answer: " + error.message;
    }
}

TranslateOptions translate_options(const KubernetesProviderOptions& options) {
    return {options.remote_namespace, options.tenant_name, options.owner, options.runtime_class,
            options.host_ips};
}

kube::ReflectorOptions pod_watch(const KubernetesProviderOptions& options) {
    kube::ReflectorOptions watch;
    watch.name = "rpods";
    watch.resource = kube::resources::kPods;
    watch.ns = options.remote_namespace;
    watch.label_selector = mark_selector(options.owner);
    return watch;
}

kube::ReflectorOptions event_watch(const KubernetesProviderOptions& options) {
    kube::ReflectorOptions watch;
    watch.name = "revents";
    watch.resource = kube::resources::kEvents;
    watch.ns = options.remote_namespace;
    watch.field_selector = "involvedObject.kind=Pod";
    return watch;
}

}  // namespace

class KubernetesProvider::Impl final : public RemotePods::Listener {
  public:
    Impl(KubernetesProviderOptions options, kube::ApiClient& remote, LocalObjects& local, Clock& clock)
        : options_(std::move(options)),
          translate_options_(translate_options(options_)),
          remote_(remote),
          pods_(options_.owner, *this),
          calls_(remote, pods_, translate_options_),
          copies_(remote, options_.remote_namespace, options_.owner),
          forwarding_(
              remote, local, copies_, pods_, translate_options_,
              [this](const PodId& pod, const std::string& type, const std::string& reason,
                     const std::string& message) { tell(pod, type, reason, message); },
              [this](const PodId& pod) { push_gone(pod); }),
          changes_(remote, calls_, forwarding_, translate_options_),
          events_(
              options_.remote_namespace,
              [this](const std::string& name) { return pods_.owner_of_name(name); },
              [this](const PodId& pod, const std::string& type, const std::string& reason,
                     const std::string& message) { tell(pod, type, reason, message); }),
          logs_(remote.transport(), calls_),
          exec_(remote.transport(), calls_),
          port_forward_(remote.transport(), calls_),
          stats_(remote, pods_, options_.remote_namespace, options_.owner),
          tidy_(
              clock, TidyOptions{},
              [this](const RemotePod& pod, const CallContext& ctx) { return verify(pod, ctx); },
              [this](const CallContext& ctx) { return collect(ctx); }),
          pod_watch_(remote, clock, pod_watch(options_), pods_),
          event_watch_(remote, clock, event_watch(options_), events_) {}

    Result<void> start(ProviderObserver& observer) {
        if (auto valid = validate(); !valid) return valid;
        observer_ = &observer;
        tidy_.start();
        pod_watch_.start();
        event_watch_.start();
        return {};
    }

    void stop() {
        event_watch_.stop();
        pod_watch_.stop();
        tidy_.stop();
    }

    Result<void> remove(const PodId& pod, std::chrono::seconds grace, const CallContext& ctx) {
        auto removal = calls_.remove(pod, grace, ctx);
        if (!removal) return fail(removal.error());
        if (*removal == RemoteCalls::Removal::WasAbsent) push_gone(pod);
        return {};
    }

    const TranslateOptions& translation() const { return translate_options_; }

    // RemotePods::Listener, on the watch thread
    void on_present(const RemotePod& pod) override {
        copies_.release(pod.id.uid);
        observer_->on_pod_changed(observed_from(pod.id, *pod.object));
    }
    void on_gone(const RemotePod& pod) override {
        copies_.release(pod.id.uid);
        observer_->on_pod_changed(gone_from(pod.id, *pod.object));
        if (!pod.copies.empty()) tidy_.request_collect();
    }
    void on_vanished(const RemotePod& pod) override { tidy_.request_verify(pod); }
    void on_watching() override {
        if (!watching_.exchange(true))
            log().info("watching our pods in remote namespace {}", options_.remote_namespace);
        observer_->on_reachable_changed(true, "");
    }
    void on_watch_failed(const Error& error) override {
        if (error.kind == ErrorKind::Cancelled) return;
        const std::string why = why_unreachable(error);
        if (watching_.exchange(false) || !complained_) log().warn("{}", why);
        complained_ = true;
        observer_->on_reachable_changed(false, why);
    }

  private:
    Result<void> validate() const;
    Result<bool> verify(const RemotePod& vanished, const CallContext& ctx);
    Result<void> collect(const CallContext& ctx);

    void tell(const PodId& pod, const std::string& type, const std::string& reason,
              const std::string& message) {
        if (observer_ != nullptr) observer_->on_pod_event(pod, type, reason, message);
    }
    void push_gone(const PodId& pod) {
        copies_.release(pod.uid);
        pods_.expect_no_more(pod);
        if (observer_ != nullptr) observer_->on_pod_changed(calls_.gone(pod));
        tidy_.request_collect();
    }

  public:
    RemoteCalls& calls() { return calls_; }
    const Quantities& fallback_capacity() const { return options_.fallback_capacity; }
    Forwarding& forwarding() { return forwarding_; }
    RunningChanges& changes() { return changes_; }
    RemoteLogs& logs() { return logs_; }
    RemoteExec& exec() { return exec_; }
    RemotePortForward& port_forward() { return port_forward_; }
    RemoteStats& stats() { return stats_; }

  private:
    const KubernetesProviderOptions options_;
    const TranslateOptions translate_options_;
    kube::ApiClient& remote_;
    ProviderObserver* observer_ = nullptr;  // set by start(), before any thread
    std::atomic<bool> watching_{false};
    bool complained_ = false;  // watch thread only
    RemotePods pods_;
    RemoteCalls calls_;
    ObjectCopies copies_;
    Forwarding forwarding_;
    RunningChanges changes_;
    RemoteEvents events_;
    RemoteLogs logs_;
    RemoteExec exec_;
    RemotePortForward port_forward_;
    RemoteStats stats_;
    Tidy tidy_;
    kube::Reflector pod_watch_;
    kube::Reflector event_watch_;
};

Result<void> KubernetesProvider::Impl::validate() const {
    const std::pair<const char*, const std::string&> needed[] = {
        {"remote namespace", options_.remote_namespace},
        {"owner's cluster UID", options_.owner.cluster_uid},
        {"owner's node name", options_.owner.node_name}};
    for (const auto& [what, value] : needed) {
        if (value.empty()) return fail(ErrorKind::Invalid, fmt::format("the {} must not be empty", what));
    }
    for (const auto& [resource, quantity] : options_.fallback_capacity) {
        if (auto parsed = kube::Quantity::parse(quantity); !parsed) {
            return fail(parsed.error().with_context("capacity of " + resource));
        }
    }
    return {};
}

// A pod left the watch unasked. True when that is settled.
Result<bool> KubernetesProvider::Impl::verify(const RemotePod& vanished, const CallContext& ctx) {
    if (pods_.find(vanished.id.uid)) return true;  // it is back
    auto object =
        remote_.get(kube::resources::kPods, options_.remote_namespace, remote_pod_name(vanished.id), ctx);
    const bool other = object && kube::uid_of(*object) != kube::uid_of(*vanished.object);
    if (other || (!object && object.error().kind == ErrorKind::NotFound)) {
        on_gone(vanished);
        return true;
    }
    if (!object) return fail(object.error());
    if (marked_pod(*object, options_.owner)) return false;  // the watch will bring it
    tell(
        vanished.id, "Warning", "OwnerMarkLost",
        fmt::format("remote pod {}/{} still exists but lost the k8s.gpu/ labels or annotations by which this "
                    "node knows it; give them back, or delete it there",
                    options_.remote_namespace, kube::name_of(*object)));
    return false;
}

Result<void> KubernetesProvider::Impl::collect(const CallContext& ctx) {
    // Until the first complete list everything looks unused.
    if (!pods_.synced()) return fail(ErrorKind::Unavailable, "remote pods are not known yet");
    auto count = copies_.collect([this](const ObjectKey& key) { return pods_.uses(key); }, ctx);
    if (!count) return fail(count.error());
    if (*count > 0)
        log().info("collected {} unused copies in remote namespace {}", *count, options_.remote_namespace);
    return {};
}

KubernetesProvider::KubernetesProvider(KubernetesProviderOptions options, kube::ApiClient& remote,
                                       LocalObjects& local, Clock& clock)
    : impl_(std::make_unique<Impl>(std::move(options), remote, local, clock)) {}

KubernetesProvider::~KubernetesProvider() {
    stop();
}

Result<void> KubernetesProvider::start(ProviderObserver& observer) {
    return impl_->start(observer);
}
void KubernetesProvider::stop() {
    impl_->stop();
}
std::optional<Refused> KubernetesProvider::check(const DesiredPod& pod) const {
    return refusal_of(translate(pod, impl_->translation()));
}
Result<EnsureOutcome> KubernetesProvider::ensure(const DesiredPod& pod, const CallContext& ctx) {
    return impl_->forwarding().ensure(pod, ctx);
}
Result<void> KubernetesProvider::update(const DesiredPod& pod, const CallContext& ctx) {
    return impl_->changes().update(pod, ctx);
}
Result<void> KubernetesProvider::remove(const PodId& pod, std::chrono::seconds grace,
                                        const CallContext& ctx) {
    return impl_->remove(pod, grace, ctx);
}
Result<ObservedPod> KubernetesProvider::observe(const PodId& pod, const CallContext& ctx) {
    return impl_->calls().observe(pod, ctx);
}
Result<std::vector<ObservedPod>> KubernetesProvider::list(const CallContext& ctx) {
    return impl_->calls().list(ctx);
}
Result<std::map<std::string, std::string>> KubernetesProvider::capacity(const CallContext& ctx) {
    return impl_->calls().capacity(impl_->fallback_capacity(), ctx);
}
LogSource* KubernetesProvider::logs() {
    return &impl_->logs();
}
Executor* KubernetesProvider::executor() {
    return &impl_->exec();
}
Attacher* KubernetesProvider::attacher() {
    return &impl_->exec();
}
PortForwarder* KubernetesProvider::port_forwarder() {
    return &impl_->port_forward();
}
StatsSource* KubernetesProvider::stats() {
    return &impl_->stats();
}

}  // namespace k8sgpu::providers
