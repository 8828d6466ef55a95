#include "kube/internal/event_correlator.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <cstring>

#include "common/encoding.h"

namespace k8sgpu::kube {
namespace {

// client-go's defaults.
constexpr double kBurst = 25;
constexpr double kRefillPerSecond = 1.0 / 300;
constexpr std::size_t kSimilarLimit = 10;
constexpr Duration kSimilarWindow{600'000};
constexpr std::size_t kMaxName = 253;  // of any object

std::string object_key(const EventObject& about) {
    return fmt::format("{}|{}|{}|{}|{}", about.api_version, about.kind, about.ns, about.name, about.uid);
}

}  // namespace

TextDigest TextDigest::of(std::string_view text) {
    const std::string digest = sha256(text);
    TextDigest key;
    std::memcpy(&key.high, digest.data(), sizeof(key.high));
    std::memcpy(&key.low, digest.data() + sizeof(key.high), sizeof(key.low));
    return key;
}

EventPlan EventCorrelator::observe(const EventNote& note, SteadyTime now) {
    EventPlan plan;
    plan.ns = note.about.ns.empty() ? "default" : note.about.ns;
    plan.message = note.message;

    const std::string object = object_key(note.about);
    const std::string group = fmt::format("{}|{}|{}", object, note.type, note.reason);
    Similar& similar = similar_[group];
    if (now - similar.last > kSimilarWindow) similar.messages.clear();
    similar.last = now;
    similar.messages.insert(TextDigest::of(note.message));
    std::string key = fmt::format("{}|{}|{}", group, note.about.field_path, note.message);
    if (similar.messages.size() >= kSimilarLimit) {
        similar.messages.erase(similar.messages.begin());
        plan.message = "(combined from similar events): " + note.message;
        key = group;
    }

    Written& written = written_[key];
    if (written.count == 0) {
        written.name = new_name(note);
        written.first = note.at;
    }
    plan.name = written.name;
    plan.first = written.first;
    plan.count = ++written.count;
    plan.muted = !may_talk(object, now);
    return plan;
}

bool EventCorrelator::may_talk(const std::string& object, SteadyTime now) {
    Bucket& bucket = buckets_[object];
    if (bucket.tokens < 0) bucket = {kBurst, now};
    const double elapsed = std::chrono::duration<double>(now - bucket.at).count();
    bucket.tokens = std::min(kBurst, bucket.tokens + elapsed * kRefillPerSecond);
    bucket.at = now;
    if (bucket.tokens < 1) return false;
    bucket.tokens -= 1;
    return true;
}

std::string EventCorrelator::new_name(const EventNote& note) {
    const auto since = note.at.time_since_epoch();
    last_stamp_ =
        std::max(last_stamp_ + 1, std::chrono::duration_cast<std::chrono::nanoseconds>(since).count());
    const std::string stamp = fmt::format(".{:x}", last_stamp_);
    return note.about.name.substr(0, kMaxName - stamp.size()) + stamp;
}

}  // namespace k8sgpu::kube
