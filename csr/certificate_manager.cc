#include "csr/certificate_manager.h"

#include <fmt/format.h>

#include <cmath>
#include <deque>
#include <limits>
#include <random>

#include "common/log.h"

namespace k8sgpu::csr {

// Names as in the kubelet's certificate manager.
struct CertificateManager::Metrics {
    explicit Metrics(MetricsRegistry& registry)
        : ttl(prometheus::BuildGauge()
                  .Name("kubelet_certificate_manager_server_ttl_seconds")
                  .Help("Time until the serving certificate expires; negative once it has, +Inf without one.")
                  .Register(registry)
                  .Add({})),
          lifetime(
              prometheus::BuildHistogram()
                  .Name("kubelet_certificate_manager_server_rotation_seconds")
                  .Help("How long a serving certificate was in use when it was replaced.")
                  .Register(registry)
                  .Add({}, prometheus::Histogram::BucketBoundaries{60, 3600, 14400, 86400, 604800, 2592000,
                                                                   7776000, 15552000, 31104000, 124416000})),
          errors(prometheus::BuildCounter()
                     .Name("kubelet_server_expiration_renew_errors")
                     .Help("Attempts to get a serving certificate that failed.")
                     .Register(registry)
                     .Add({})) {
        ttl.Set(std::numeric_limits<double>::infinity());
    }
    prometheus::Gauge& ttl;
    prometheus::Histogram& lifetime;
    prometheus::Counter& errors;
    std::uint64_t counted_failures = 0;
    std::optional<SteadyTime> in_use_since;
};

namespace {

CertificateStateOptions with_random(CertificateStateOptions options) {
    if (!options.random) {
        options.random = [engine = std::minstd_rand(std::random_device{}())]() mutable {
            return std::uniform_real_distribution<double>(0.0, 1.0)(engine);
        };
    }
    return options;
}

}  // namespace

CertificateManager::CertificateManager(Clock& clock, kube::ApiClient& client, CertificateStore& store,
                                       CertificateObserver& observer, MetricsRegistry& metrics,
                                       CertificateManagerOptions options)
    : clock_(clock),
      client_(client),
      store_(store),
      observer_(observer),
      options_(std::move(options)),
      metrics_(std::make_unique<Metrics>(metrics)),
      state_(with_random(options_.state)) {}

CertificateManager::~CertificateManager() {
    stop();
}

void CertificateManager::start() {
    thread_ = Thread("csr", [this](std::stop_token stop) { run(std::move(stop)); });
}

void CertificateManager::stop() {
    thread_.stop();
}

Result<void> CertificateManager::set_names(const SubjectNames& names) {
    auto normal = normalise(names);
    if (!normal) return fail(normal.error());
    *new_names_.lock() = std::move(*normal);
    changed_.notify_all();
    return {};
}

void CertificateManager::run(std::stop_token stop) {
    const auto ctx = CallContext::until_stopped(clock_, stop);
    load(ctx);
    while (!stop.stop_requested()) {
        std::optional<SubjectNames> names;
        {
            auto waiting = new_names_.lock();
            waiting.wait_until(clock_, changed_, state_.next_tick(now()), stop,
                               [&] { return waiting->has_value(); });
            std::swap(names, *waiting);
        }
        if (stop.stop_requested()) return;
        feed(names ? Event(event::NamesChanged{std::move(*names)}) : Event(event::Tick{}), ctx);
        measure();
    }
}

void CertificateManager::load(const CallContext& ctx) {
    // A store that answers later (the API server is away) is asked again, because a certificate that is there
    // must not be asked for anew; one that can never answer costs only that.
    Backoff backoff(options_.state.retry);
    event::Loaded loaded;
    while (true) {
        auto stored = store_.load(ctx.with_timeout(options_.call_timeout));
        if (!stored && is_retryable(stored.error().kind)) {
            log().warn("serving certificate: reading {}: {}; trying again", store_.describe(),
                       stored.error().message);
            if (!clock_.sleep_for(backoff.next(), ctx.stop())) return;
            continue;
        }
        if (!stored) {
            log().warn("serving certificate: reading {}: {}; a new one will be asked for", store_.describe(),
                       stored.error().message);
        } else if (*stored) {
            auto info = parse_certificates((*stored)->chain_pem);
            auto key = KeyPair::from_pem((*stored)->key_pem);
            if (info && key) {
                loaded.certificate = HeldCertificate{std::move(*info), std::move(*key)};
            } else {
                log().warn("serving certificate: {} holds nothing usable ({}); a new one will be asked for",
                           store_.describe(), info ? key.error().message : info.error().message);
            }
        }
        break;
    }
    feed(loaded, ctx);
    measure();
}

void CertificateManager::feed(const Event& event, const CallContext& ctx) {
    std::deque<Event> events{event};
    while (!events.empty()) {
        const Event next = std::move(events.front());
        events.pop_front();
        for (const Intent& intent : state_.step(next, now())) {
            if (ctx.stop().stop_requested()) return;
            if (auto answer = carry_out(intent, ctx)) events.push_back(std::move(*answer));
        }
    }
}

std::optional<Event> CertificateManager::carry_out(const Intent& intent, const CallContext& ctx) {
    const CallContext call = ctx.with_timeout(options_.call_timeout);
    if (const auto* announce = std::get_if<intent::Announce>(&intent)) {
        if (announce->warning) {
            log().warn("{}: {}", announce->reason, announce->message);
        } else {
            log().info("{}: {}", announce->reason, announce->message);
        }
        observer_.on_event(announce->warning ? "Warning" : "Normal", announce->reason, announce->message);
        return std::nullopt;
    }
    if (const auto* request = std::get_if<intent::Request>(&intent))
        return this->request(request->wanted, call);
    if (const auto* approve = std::get_if<intent::Approve>(&intent)) {
        auto approved =
            client_.replace(kube::resources::kCsrs, "", approve->name, approve->csr, call, "approval");
        if (!approved) return event::ApproveFailed{approved.error()};
        log().info("approved our own request {} after checking that it is unchanged", approve->name);
        return event::Approved{};
    }
    if (const auto* poll = std::get_if<intent::Poll>(&intent)) {
        auto csr = client_.get(kube::resources::kCsrs, "", poll->name, call);
        if (!csr) return event::PollFailed{csr.error()};
        return event::Seen{std::move(*csr)};
    }
    return install(std::get<intent::Install>(intent), call);
}

Event CertificateManager::request(const RequestTemplate& wanted, const CallContext& ctx) {
    auto key = KeyPair::generate();
    if (!key) return event::RequestFailed{key.error()};
    auto pem = make_request(wanted, *key);
    if (!pem) return event::RequestFailed{pem.error()};
    const Json object = make_csr_object(options_.state.signer, *pem, options_.state.expiration);
    auto created = client_.create(kube::resources::kCsrs, "", object, ctx);
    if (!created) return event::RequestFailed{created.error()};
    log().info("asked {} for a serving certificate: request {}, names {} {}", options_.state.signer,
               string_at(*created, {"metadata", "name"}), fmt::join(wanted.names.dns, " "),
               fmt::join(wanted.names.ips, " "));
    return event::Requested{std::move(*created), std::move(*key), wanted};
}

std::optional<Event> CertificateManager::install(const intent::Install& install, const CallContext& ctx) {
    const std::string key_pem = install.certificate.key.pem();
    const std::string& chain_pem = install.certificate.info.chain_pem;
    if (metrics_->in_use_since)
        metrics_->lifetime.Observe(
            std::chrono::duration<double>(clock_.now() - *metrics_->in_use_since).count());
    metrics_->in_use_since = clock_.now();
    observer_.on_certificate(chain_pem, key_pem);
    if (!install.store) return std::nullopt;
    auto saved = store_.save({chain_pem, key_pem}, ctx);
    if (saved) return std::nullopt;
    return event::StoreFailed{saved.error().with_context(store_.describe())};
}

void CertificateManager::measure() {
    const auto& current = state_.current();
    if (current) {
        const double ttl = std::chrono::duration<double>(current->info.not_after - clock_.wall_now()).count();
        metrics_->ttl.Set(std::floor(ttl));
        has_certificate_ = ttl > 0;
    }
    metrics_->errors.Increment(static_cast<double>(state_.failures() - metrics_->counted_failures));
    metrics_->counted_failures = state_.failures();
}

}  // namespace k8sgpu::csr
