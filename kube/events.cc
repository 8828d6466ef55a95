#include "kube/events.h"

#include <algorithm>
#include <optional>

#include "common/encoding.h"
#include "common/log.h"
#include "kube/internal/event_correlator.h"
#include "kube/object.h"

namespace k8sgpu::kube {
namespace {

constexpr std::size_t kMaxMessage = 4096;
constexpr Duration kCallTimeout{10'000};

// Whether the API server was not reached at all, as against an answer that we do not like.
bool unreached(const Error& error) {
    return !error.http_status && (error.kind == ErrorKind::Unavailable || error.kind == ErrorKind::Timeout);
}

// At most `rate` a second on average; belongs to one thread.
class Pace {
  public:
    Pace(double rate, double burst, SteadyTime now) : rate_(rate), burst_(burst), tokens_(burst), at_(now) {}

    // How long to wait before the next one.
    Duration next(SteadyTime now) {
        tokens_ = std::min(burst_, tokens_ + std::chrono::duration<double>(now - at_).count() * rate_);
        at_ = now;
        tokens_ -= 1;
        if (tokens_ >= 0) return Duration::zero();
        return Duration(static_cast<Duration::rep>(-tokens_ / rate_ * 1000));
    }

  private:
    const double rate_, burst_;
    double tokens_;
    SteadyTime at_;
};

}  // namespace

EventObject event_object(const Json& object, std::string_view kind) {
    return {string_at(object, {"apiVersion"}, "v1"),
            std::string(kind),
            namespace_of(object),
            name_of(object),
            uid_of(object),
            resource_version_of(object),
            ""};
}

EventRecorder::EventRecorder(ApiClient& client, Clock& clock, EventRecorderOptions options)
    : client_(client), clock_(clock), options_(std::move(options)) {}

EventRecorder::~EventRecorder() {
    stop();
}

void EventRecorder::start() {
    thread_ = Thread("events", [this](std::stop_token stop) { run(std::move(stop)); });
}

void EventRecorder::stop() {
    thread_.stop();
}

void EventRecorder::record(const EventObject& about, const std::string& type, const std::string& reason,
                           const std::string& message) {
    {
        auto state = state_.lock();
        if (state->queue.size() >= options_.queue_limit) {
            ++state->dropped;
            return;
        }
        state->queue.push_back({about, type, reason, message.substr(0, kMaxMessage), clock_.wall_now()});
    }
    changed_.notify_one();
}

void EventRecorder::run(std::stop_token stop) {
    EventCorrelator correlator;
    Pace pace(options_.writes_per_second, options_.write_burst, clock_.now());
    std::optional<SteadyTime> flush_until;
    while (true) {
        EventNote note;
        {
            auto state = state_.lock();
            const auto filled = [&] { return !state->queue.empty(); };
            state.wait_until(clock_, changed_, SteadyTime::max(), stop, filled);
            if (state->queue.empty()) return;  // stopped, and nothing is left to write
            note = std::move(state->queue.front());
            state->queue.pop_front();
        }
        const EventPlan plan = correlator.observe(note, clock_.now());
        if (plan.muted) {
            ++state_.lock()->muted;
            continue;
        }
        const Duration wait = pace.next(clock_.now());
        if (wait > Duration::zero()) clock_.sleep_for(wait, stop);
        if (!stop.stop_requested()) {
            write(note, plan, CallContext::until_stopped(clock_, stop));
            continue;
        }
        // The last words of a stopping node: quickly or not at all.
        if (!flush_until) flush_until = clock_.now() + options_.flush;
        if (clock_.now() >= *flush_until) return;
        write(note, plan, CallContext(clock_, *flush_until, {}));
    }
}

void EventRecorder::write(const EventNote& note, const EventPlan& plan, const CallContext& ctx) {
    Result<void> written;
    for (int attempt = 1; attempt <= options_.attempts; ++attempt) {
        written = write_once(note, plan, ctx.with_timeout(kCallTimeout));
        if (written || !unreached(written.error()) || !ctx.check()) break;
        if (attempt < options_.attempts)
            clock_.sleep_until(std::min(ctx.deadline(), clock_.now() + options_.retry_pause), ctx.stop());
    }
    if (written) return;
    ++state_.lock()->dropped;
    if (written.error().kind == ErrorKind::Cancelled) return;
    log().warn("event {} on {} {}/{}: {}", note.reason, note.about.kind, plan.ns, note.about.name,
               written.error().message);
}

Result<void> EventRecorder::write_once(const EventNote& note, const EventPlan& plan, const CallContext& ctx) {
    if (plan.count > 1) {
        const Json patch = {
            {"count", plan.count}, {"lastTimestamp", rfc3339_seconds(note.at)}, {"message", plan.message}};
        auto patched =
            client_.patch(resources::kEvents, plan.ns, plan.name, PatchType::StrategicMerge, patch, ctx);
        if (patched) return {};
        // Gone: Events expire at the server (one hour by default), and muted ones were never written.
        if (patched.error().kind != ErrorKind::NotFound) return fail(patched.error());
    }
    auto created = client_.create(resources::kEvents, plan.ns, to_json(note, plan), ctx);
    // There already: an earlier attempt whose answer was lost.
    if (created || created.error().kind == ErrorKind::AlreadyExists) return {};
    return fail(created.error());
}

Json EventRecorder::to_json(const EventNote& note, const EventPlan& plan) const {
    const EventObject& about = note.about;
    Json involved = {{"apiVersion", about.api_version}, {"kind", about.kind}, {"name", about.name}};
    if (!about.ns.empty()) involved["namespace"] = about.ns;
    if (!about.uid.empty()) involved["uid"] = about.uid;
    if (!about.resource_version.empty()) involved["resourceVersion"] = about.resource_version;
    if (!about.field_path.empty()) involved["fieldPath"] = about.field_path;
    return {{"apiVersion", "v1"},
            {"kind", "Event"},
            {"metadata", {{"namespace", plan.ns}, {"name", plan.name}}},
            {"involvedObject", involved},
            {"type", note.type},
            {"reason", note.reason},
            {"message", plan.message},
            {"source", {{"component", options_.component}, {"host", options_.host}}},
            {"reportingComponent", options_.component},
            {"reportingInstance", options_.host},
            {"count", plan.count},
            {"firstTimestamp", rfc3339_seconds(plan.first)},
            {"lastTimestamp", rfc3339_seconds(note.at)}};
}

}  // namespace k8sgpu::kube
