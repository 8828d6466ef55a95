// Decides what becomes of one more Event, as client-go's EventCorrelator does (tools/record/events_cache.go):
// a new object, one more count in an old one, one of a combined kind, or nothing. Pure but for its memory,
// which is bounded; belongs to one thread. Pods come and go by the thousand, so what is remembered of an
// Event is a digest and not its text.
#pragma once

#include <compare>
#include <cstdint>
#include <list>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "kube/events.h"

namespace k8sgpu::kube {

// Stands for a text: the beginning of its SHA-256, long enough that no two are ever mistaken.
struct TextDigest {
    std::uint64_t high = 0;
    std::uint64_t low = 0;
    auto operator<=>(const TextDigest&) const = default;

    static TextDigest of(std::string_view text);
};

// The most recently used `limit` values by the digest of their key.
template <typename Value>
class LruMap {
  public:
    explicit LruMap(std::size_t limit) : limit_(limit) {}

    // The value of `text`, made by default when it is new.
    Value& operator[](std::string_view text) {
        const TextDigest key = TextDigest::of(text);
        const auto found = index_.find(key);
        if (found != index_.end()) {
            order_.splice(order_.begin(), order_, found->second);
            return found->second->second;
        }
        order_.emplace_front(key, Value{});
        index_[key] = order_.begin();
        if (order_.size() > limit_) {
            index_.erase(order_.back().first);
            order_.pop_back();
        }
        return order_.front().second;
    }
    std::size_t size() const { return order_.size(); }

  private:
    struct Hash {
        std::size_t operator()(const TextDigest& key) const { return key.low; }
    };
    using Order = std::list<std::pair<TextDigest, Value>>;
    const std::size_t limit_;
    Order order_;
    std::unordered_map<TextDigest, typename Order::iterator, Hash> index_;
};

// What to write: an object of that name with that count and message. A count above 1 is a patch of the
// existing one, or the whole object again when it has expired at the server.
struct EventPlan {
    bool muted = false;
    std::string ns;
    std::string name;
    std::string message;
    std::int64_t count = 1;
    WallTime first;
};

class EventCorrelator {
  public:
    EventPlan observe(const EventNote& note, SteadyTime now);
    std::size_t remembered() const { return written_.size() + similar_.size() + buckets_.size(); }

  private:
    struct Written {
        std::string name;
        std::int64_t count = 0;
        WallTime first;
    };
    struct Similar {
        std::set<TextDigest> messages;
        SteadyTime last;
    };
    struct Bucket {
        double tokens = -1;  // -1: new
        SteadyTime at;
    };
    bool may_talk(const std::string& object_key, SteadyTime now);
    std::string new_name(const EventNote& note);

    static constexpr std::size_t kMemory = 4096;
    LruMap<Written> written_{kMemory};
    LruMap<Similar> similar_{kMemory};
    LruMap<Bucket> buckets_{kMemory};
    std::int64_t last_stamp_ = 0;
};

}  // namespace k8sgpu::kube
