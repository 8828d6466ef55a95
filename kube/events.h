// Writes core/v1 Events as the kubelet's recorder does (client-go tools/record): repeats of one event are
// counted in one object, ten similar messages in ten minutes are combined, and a source that talks too much
// about one object is muted (burst 25, one more every 5 minutes).
//
// record() never blocks and may be called from any thread; what does not fit into the queue is dropped and
// counted. One thread, "events", writes. Owned by App; start() once, stop() idempotent: writes what is queued
// for at most `flush` and joins.
#pragma once

#include <condition_variable>
#include <deque>
#include <memory>
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
    double writes_per_second = 50;  // the kubelet's eventRecordQPS
    double write_burst = 100;
    // While the API server cannot be reached an Event is tried again; then it is dropped (client-go: 12
    // times).
    int attempts = 12;
    Duration retry_pause{10'000};
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

// One call of record().
struct EventNote {
    EventObject about;
    std::string type, reason, message;
    WallTime at;
};

struct EventPlan;

class EventRecorder {
  public:
    EventRecorder(ApiClient& client, Clock& clock, EventRecorderOptions options);
    ~EventRecorder();

    void start();
    void stop();

    // `type` is "Normal" or "Warning".
    void record(const EventObject& about, const std::string& type, const std::string& reason,
                const std::string& message);

    // Lost since the start: no room in the queue, or not accepted by the API server.
    std::size_t dropped() const { return state_.lock()->dropped; }
    // Held back by the limit per object.
    std::size_t muted() const { return state_.lock()->muted; }

  private:
    struct State {
        std::deque<EventNote> queue;
        std::size_t dropped = 0;
        std::size_t muted = 0;
    };
    void run(std::stop_token stop);
    void write(const EventNote& note, const EventPlan& plan, const CallContext& ctx);
    Result<void> write_once(const EventNote& note, const EventPlan& plan, const CallContext& ctx);
    Json to_json(const EventNote& note, const EventPlan& plan) const;

    ApiClient& client_;
    Clock& clock_;
    const EventRecorderOptions options_;
    Guarded<State> state_;
    std::condition_variable_any changed_;
    Thread thread_;
};

// The EventObject of an API object.
EventObject event_object(const Json& object, std::string_view kind);

}  // namespace k8sgpu::kube
