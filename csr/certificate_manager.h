// Keeps a valid serving certificate in use: the thread "csr" that carries out what CertificateState decides.
//
// The owner constructs it, start()s it once and stop()s it (or destroys it) before its references go.
// set_names() may be called from any thread at any time and returns at once. The observer is called on the
// thread "csr" and must not call back into stop().
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "common/guarded.h"
#include "common/metrics.h"
#include "common/thread.h"
#include "csr/certificate_state.h"
#include "csr/certificate_store.h"
#include "kube/api_client.h"

namespace k8sgpu::csr {

class CertificateObserver {
  public:
    virtual ~CertificateObserver() = default;
    // A certificate to serve from now on; running connections keep theirs. PEM, leaf first.
    virtual void on_certificate(const std::string& chain_pem, const std::string& key_pem) = 0;
    // Something worth an Event on the Node; it is in the log already. `type` is "Normal" or "Warning".
    virtual void on_event(const std::string& type, const std::string& reason, const std::string& message) = 0;
};

struct CertificateManagerOptions {
    CertificateStateOptions state;
    Duration call_timeout{30'000};  // of each API call
};

class CertificateManager {
  public:
    CertificateManager(Clock& clock, kube::ApiClient& client, CertificateStore& store,
                       CertificateObserver& observer, MetricsRegistry& metrics,
                       CertificateManagerOptions options);
    ~CertificateManager();

    // Loads what the store has, serves it when it is good, and takes it from there.
    void start();
    void stop();  // idempotent; joins

    // The names and addresses of the node, as its status publishes them. Nothing is asked for before the
    // first call that has an IP address. Invalid when an entry is neither; the former names stay in force.
    Result<void> set_names(const SubjectNames& names);

    // True while a certificate that has not expired is in use.
    bool has_certificate() const { return has_certificate_; }

  private:
    struct Metrics;
    void run(std::stop_token stop);
    void load(const CallContext& ctx);
    void feed(const Event& event, const CallContext& ctx);
    std::optional<Event> carry_out(const Intent& intent, const CallContext& ctx);
    Event request(const RequestTemplate& wanted, const CallContext& ctx);
    std::optional<Event> install(const intent::Install& install, const CallContext& ctx);
    void measure();
    Moment now() const { return {clock_.now(), clock_.wall_now()}; }

    Clock& clock_;
    kube::ApiClient& client_;
    CertificateStore& store_;
    CertificateObserver& observer_;
    CertificateManagerOptions options_;
    std::unique_ptr<Metrics> metrics_;
    CertificateState state_;  // of the thread
    std::atomic<bool> has_certificate_{false};
    Guarded<std::optional<SubjectNames>> new_names_;
    std::condition_variable_any changed_;
    Thread thread_;
};

}  // namespace k8sgpu::csr
