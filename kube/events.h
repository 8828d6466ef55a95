// Writes core/v1 Events as the kubelet's recorder does (client-go tools/record): repeats of one event are
// counted in one object, ten similar messages in ten minutes are combined, and a source that talks too much
// about one object is muted (burst 25, one more every 5 minutes).
//
// record() never blocks and may be called from any thread; what does not fit into the queue is dropped and
// counted. One thread, "events", writes. Owned by App; start() once, stop() idempotent: writes what is queued
// for at most `flush` and joins.
#pragma once

#include <chrono>
#include <deque>
#include <map>
#include <set>
#include <string>

#include "common/guarded.h"
#include "common/json.h"
#include "common/thread.h"
#include "kube/api_client.h"

namespace k8sgpu::kube {

struct EventRecorderOptions {
    std::string component = "kubelet";
    std::string host;  // node name
    std::size_t queue_limit = 1000;
    Duration flush{2'000};
};

// What an Event is about.
struct EventObject {
    std::string api_version = "v1";
    std::string kind;
    std::string ns;  // "" for cluster-scoped objects: their Events go to namespace default
    std::string name;
    std::string uid;
    std::string resource_version;
    std::string field_path;  // "spec.containers{main}"
};

class EventRecorder {
  public:
    EventRecorder(ApiClient& client, Clock& clock, EventRecorderOptions options);
    ~EventRecorder() { stop(); }

    void start();
    void stop();

    // `type` is "Normal" or "Warning".
    void record(const EventObject& about, const std::string& type, const std::string& reason,
                const std::string& message);
    std::size_t dropped() const { return state_.lock()->dropped; }

  private:
    struct Item {
        EventObject about;
        std::string type, reason, message;
        WallTime at;
    };
    struct State {
        std::deque<Item> queue;
        std::size_t dropped = 0;
    };
    // One written Event that repeats may be counted into.
    struct Written {
        std::string ns, name;
        std::int64_t count = 0;
        SteadyTime at;
    };
    // Similar events (all but the message) within the last ten minutes.
    struct Similar {
        std::set<std::string> messages;
        SteadyTime since;
    };
    struct Bucket {
        double tokens = 0;
        SteadyTime at;
    };

    void run(std::stop_token stop);
    void write(Item item, const CallContext& ctx);
    bool may_talk(const Item& item);
    void forget_old();

    ApiClient& client_;
    Clock& clock_;
    EventRecorderOptions options_;
    Guarded<State> state_;
    std::condition_variable_any changed_;
    // Of the thread.
    std::map<std::string, Written> written_;
    std::map<std::string, Similar> similar_;
    std::map<std::string, Bucket> buckets_;
    Thread thread_;
};

// The EventObject of an API object.
EventObject event_object(const Json& object, std::string_view kind);

}  // namespace k8sgpu::kube
