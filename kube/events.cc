#include "kube/events.h"

#include <algorithm>

#include "common/encoding.h"
#include "common/log.h"
#include "kube/object.h"

namespace k8sgpu::kube {
namespace {

// client-go's defaults (events_cache.go).
constexpr double kBurst = 25;
constexpr double kRefillPerSecond = 1.0 / 300;
constexpr std::size_t kSimilarLimit = 10;
constexpr Duration kSimilarWindow{600'000};
constexpr std::size_t kMaxRemembered = 4096;
constexpr std::size_t kMaxMessage = 1024;  // the API server refuses longer ones
constexpr Duration kCallTimeout{10'000};

std::string about_key(const EventObject& about) {
    return fmt::format("{}/{}/{}/{}/{}", about.kind, about.ns, about.name, about.uid, about.field_path);
}

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

void EventRecorder::start() {
    thread_ = Thread("events", [this](std::stop_token stop) { run(std::move(stop)); });
}

void EventRecorder::stop() {
    thread_.stop();
}

void EventRecorder::record(const EventObject& about, const std::string& type, const std::string& reason,
                           const std::string& message) {
    auto state = state_.lock();
    if (state->queue.size() >= options_.queue_limit) {
        ++state->dropped;
        return;
    }
    state->queue.push_back({about, type, reason, message.substr(0, kMaxMessage), clock_.wall_now()});
    state.unlock();
    changed_.notify_one();
}

void EventRecorder::run(std::stop_token stop) {
    std::optional<SteadyTime> flush_until;
    while (true) {
        Item item;
        {
            auto state = state_.lock();
            state.wait_until(clock_, changed_, SteadyTime::max(), stop,
                             [&] { return !state->queue.empty(); });
            if (state->queue.empty()) return;  // stopped, and nothing is left to write
            item = std::move(state->queue.front());
            state->queue.pop_front();
        }
        if (!stop.stop_requested()) {
            write(std::move(item), CallContext::with_timeout(clock_, kCallTimeout, stop));
            continue;
        }
        // The last words of a stopping node: quickly or not at all.
        if (!flush_until) flush_until = clock_.now() + options_.flush;
        if (clock_.now() >= *flush_until) return;
        write(std::move(item), CallContext(clock_, *flush_until, {}));
    }
}

bool EventRecorder::may_talk(const Item& item) {
    const SteadyTime now = clock_.now();
    auto [found, fresh] = buckets_.try_emplace(about_key(item.about), Bucket{kBurst, now});
    Bucket& bucket = found->second;
    const double elapsed = std::chrono::duration<double>(now - bucket.at).count();
    bucket.tokens = std::min(kBurst, bucket.tokens + elapsed * kRefillPerSecond);
    bucket.at = now;
    if (bucket.tokens < 1) return false;
    bucket.tokens -= 1;
    return true;
}

void EventRecorder::write(Item item, const CallContext& ctx) {
    forget_old();
    const SteadyTime now = clock_.now();
    const std::string group = about_key(item.about) + "|" + item.type + "|" + item.reason;
    Similar& similar = similar_[group];
    if (now - similar.since > kSimilarWindow) similar = {{}, now};
    similar.messages.insert(item.message);
    std::string key = group + "|" + item.message;
    if (similar.messages.size() > kSimilarLimit) {
        key = group;
        item.message = "(combined from similar events): " + item.message;
    }
    if (!may_talk(item)) {
        ++state_.lock()->dropped;
        return;
    }
    const std::string stamp = rfc3339_seconds(item.at);
    if (const auto found = written_.find(key); found != written_.end()) {
        Written& before = found->second;
        const Json patch = {{"count", before.count + 1}, {"lastTimestamp", stamp}, {"message", item.message}};
        auto patched =
            client_.patch(resources::kEvents, before.ns, before.name, PatchType::StrategicMerge, patch, ctx);
        if (patched) {
            ++before.count;
            before.at = now;
            return;
        }
        written_.erase(found);  // expired at the server (one hour by default), or refused: write a new one
    }
    const std::string ns = item.about.ns.empty() ? "default" : item.about.ns;
    const auto nanos =
        std::chrono::duration_cast<std::chrono::nanoseconds>(item.at.time_since_epoch()).count();
    const std::string name = fmt::format("{}.{:x}", item.about.name, nanos);
    Json involved = {
        {"apiVersion", item.about.api_version}, {"kind", item.about.kind}, {"name", item.about.name}};
    if (!item.about.ns.empty()) involved["namespace"] = item.about.ns;
    if (!item.about.uid.empty()) involved["uid"] = item.about.uid;
    if (!item.about.resource_version.empty()) involved["resourceVersion"] = item.about.resource_version;
    if (!item.about.field_path.empty()) involved["fieldPath"] = item.about.field_path;
    const Json event = {{"apiVersion", "v1"},
                        {"kind", "Event"},
                        {"metadata", {{"namespace", ns}, {"name", name}}},
                        {"involvedObject", involved},
                        {"type", item.type},
                        {"reason", item.reason},
                        {"message", item.message},
                        {"source", {{"component", options_.component}, {"host", options_.host}}},
                        {"reportingComponent", options_.component},
                        {"reportingInstance", options_.host},
                        {"count", 1},
                        {"firstTimestamp", stamp},
                        {"lastTimestamp", stamp}};
    const auto created = client_.create(resources::kEvents, ns, event, ctx);
    if (created) {
        written_[key] = {ns, name, 1, now};
        return;
    }
    ++state_.lock()->dropped;
    if (created.error().kind != ErrorKind::Cancelled) {
        log().warn("event {} on {} {}/{}: {}", item.reason, item.about.kind, ns, item.about.name,
                   created.error().message);
    }
}

void EventRecorder::forget_old() {
    const SteadyTime now = clock_.now();
    if (written_.size() > kMaxRemembered) {
        std::erase_if(written_, [&](const auto& e) { return now - e.second.at > kSimilarWindow; });
        if (written_.size() > kMaxRemembered) written_.clear();
    }
    if (similar_.size() > kMaxRemembered) {
        std::erase_if(similar_, [&](const auto& e) { return now - e.second.since > kSimilarWindow; });
    }
    if (buckets_.size() > kMaxRemembered) {
        std::erase_if(buckets_, [&](const auto& e) { return now - e.second.at > kSimilarWindow; });
    }
}

}  // namespace k8sgpu::kube
