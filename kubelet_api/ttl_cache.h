// A bounded cache whose entries expire: answers of TokenReview and SubjectAccessReview. The entry used least
// recently goes first when it is full. Any thread.
#pragma once

#include <list>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>

#include "common/clock.h"
#include "common/guarded.h"

namespace k8sgpu::kubelet_api {

template <typename Value>
class TtlCache {
  public:
    explicit TtlCache(std::size_t capacity) : capacity_(capacity) {}

    std::optional<Value> get(const std::string& key, SteadyTime now) {
        auto state = state_.lock();
        const auto found = state->index.find(key);
        if (found == state->index.end()) return std::nullopt;
        if (now >= found->second->expires) {
            state->entries.erase(found->second);
            state->index.erase(found);
            return std::nullopt;
        }
        state->entries.splice(state->entries.begin(), state->entries, found->second);
        return found->second->value;
    }

    void put(const std::string& key, Value value, SteadyTime expires) {
        auto state = state_.lock();
        if (const auto found = state->index.find(key); found != state->index.end()) {
            state->entries.erase(found->second);
            state->index.erase(found);
        }
        state->entries.push_front({key, std::move(value), expires});
        state->index[key] = state->entries.begin();
        if (state->entries.size() <= capacity_) return;
        state->index.erase(state->entries.back().key);
        state->entries.pop_back();
    }

  private:
    struct Entry {
        std::string key;
        Value value;
        SteadyTime expires;
    };
    struct State {
        std::list<Entry> entries;  // most recently used first
        std::unordered_map<std::string, typename std::list<Entry>::iterator> index;
    };
    std::size_t capacity_;
    Guarded<State> state_;
};

}  // namespace k8sgpu::kubelet_api
