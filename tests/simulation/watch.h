// The two ends of a watch. WatchSource is what a server has: objects at a version and the changes since.
// Watch is what kube::Reflector makes of it on the client's side: a complete list, then changes in their
// order, late, repeated, cut at will and resumed from the last version seen, or listed anew after 410 Gone.
#pragma once

#include <algorithm>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "kube/object.h"
#include "kube/reflector.h"
#include "tests/simulation/chance.h"
#include "tests/simulation/link.h"

namespace k8sgpu::simulation {

struct Change {
    std::uint64_t version;
    bool deleted;
    kube::ObjectPtr object;
};

class WatchSource {
  public:
    std::uint64_t version() const { return version_; }
    // Objects as they were at `version`; only those that the filter takes.
    std::map<std::string, kube::ObjectPtr> at_version(std::uint64_t version) const {
        std::map<std::string, kube::ObjectPtr> objects;
        for (const Change& change : changes_) {
            if (change.version > version) break;
            if (change.deleted) {
                objects.erase(kube::uid_of(*change.object));
            } else {
                objects[kube::uid_of(*change.object)] = change.object;
            }
        }
        return objects;
    }
    // The first change after `version`; null when there is none yet.
    const Change* next_after(std::uint64_t version) const {
        const auto found =
            std::upper_bound(changes_.begin(), changes_.end(), version,
                             [](std::uint64_t v, const Change& change) { return v < change.version; });
        return found == changes_.end() ? nullptr : &*found;
    }
    // Watches that start before this get 410.
    std::uint64_t compacted() const { return compacted_; }
    void compact() { compacted_ = version_ - std::min<std::uint64_t>(version_, 20); }
    void subscribe(std::function<void()> told) { told_.push_back(std::move(told)); }

  protected:
    std::uint64_t advance() { return ++version_; }
    void record(bool deleted, kube::ObjectPtr object) {
        changes_.push_back({version_, deleted, std::move(object)});
        for (const auto& told : told_) told();
    }

  private:
    std::uint64_t version_ = 1;
    std::uint64_t compacted_ = 0;
    std::vector<Change> changes_;  // a world is small: all of it
    std::vector<std::function<void()>> told_;
};

class Watch {
  public:
    // `takes` is the selector. The handler is called until stop().
    Watch(Timeline& timeline, Chance& chance, Link& link, const WatchSource& source, std::string name,
          std::function<bool(const Json&)> takes, kube::ReflectorHandler& handler)
        : timeline_(timeline),
          chance_(chance),
          link_(link),
          source_(source),
          name_(std::move(name)),
          takes_(std::move(takes)),
          handler_(handler) {}

    void start() {
        ++life_;
        listed_ = false;
        busy_ = false;
        list();
    }
    void stop() {
        ++life_;
        listed_ = false;
    }
    // The connection is cut: what is on its way never arrives. `expired`: and what is needed to resume is
    // gone.
    void cut(bool expired) {
        if (!listed_) return;
        ++life_;
        busy_ = false;
        resume(expired);
    }
    // A change was made at the source.
    void look() {
        if (!listed_ || busy_ || source_.next_after(seen_) == nullptr) return;
        busy_ = true;
        later(link_.latency(), [this] { deliver(); });
    }

  private:
    void later(Duration delay, std::function<void()> action) {
        timeline_.after(delay, [this, life = life_, action = std::move(action)] {
            if (life == life_) action();
        });
    }
    void list() {
        busy_ = true;
        const std::uint64_t life = life_;
        link_.call<std::uint64_t>(
            "list " + name_,
            [this]() -> Result<std::uint64_t> {
                // A server's cache may be behind what another server has taken.
                const std::uint64_t now = source_.version();
                if (!link_.unreliable() || !chance_.happens(0.1)) return now;
                const auto lag = static_cast<std::uint64_t>(chance_.between(1, 20));
                return std::max(source_.compacted(), now > lag ? now - lag : 0);
            },
            [this, life](Result<std::uint64_t> version) {
                if (life != life_) return;
                if (!version) {
                    handler_.on_error(version.error());
                    later(chance_.between(Duration(200), Duration(5'000)), [this] { list(); });
                    return;
                }
                std::vector<kube::ObjectPtr> objects;
                for (const auto& [uid, object] : source_.at_version(*version)) {
                    if (takes_(*object)) objects.push_back(object);
                }
                timeline_.trace("{}: listed {} at version {}", name_, objects.size(), *version);
                seen_ = *version;
                listed_ = true;
                busy_ = false;
                handler_.on_listed(std::move(objects));
                look();
            });
    }
    void resume(bool expired = false) {
        if (expired || seen_ < source_.compacted()) {
            timeline_.trace("{}: 410 Gone", name_);
            listed_ = false;
            list();
            return;
        }
        busy_ = true;
        later(link_.latency() + (link_.is_up() ? Duration(0) : Duration(1'000)), [this] {
            busy_ = false;
            if (!link_.is_up()) return resume();
            look();
        });
    }
    void deliver() {
        busy_ = false;
        if (!link_.is_up()) return resume();
        const Change* change = source_.next_after(seen_);
        if (change == nullptr) return;
        seen_ = change->version;
        hand_on(*change);
        // The same once more, as after a cut that lost only the acknowledgement.
        if (link_.unreliable() && chance_.happens(0.02)) {
            const Change* again = source_.next_after(seen_ - 1);
            if (again != nullptr) hand_on(*again);
        }
        look();
    }
    void hand_on(const Change& change) {
        if (!takes_(*change.object)) return;
        timeline_.trace("{}: {} {} at version {}", name_, change.deleted ? "deleted" : "applied",
                        kube::name_of(*change.object), change.version);
        if (change.deleted) {
            handler_.on_deleted(change.object);
        } else {
            handler_.on_applied(change.object);
        }
    }

    Timeline& timeline_;
    Chance& chance_;
    Link& link_;
    const WatchSource& source_;
    std::string name_;
    std::function<bool(const Json&)> takes_;
    kube::ReflectorHandler& handler_;
    std::uint64_t life_ = 0;
    std::uint64_t seen_ = 0;
    bool listed_ = false;
    bool busy_ = false;
};

}  // namespace k8sgpu::simulation
