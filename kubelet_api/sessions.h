// Everything that may last long on the API port, so that it can be ended from outside: connections, followed
// logs, exec sessions. Ending is two steps: soft (the token; whoever can still tell its client why, does) and
// hard (the kill token; the connection is cut).
//
// The registry is called from any thread. A Session belongs to one connection thread and leaves the registry
// when it is destroyed; it must not outlive the registry.
#pragma once

#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>

#include "common/guarded.h"

namespace k8sgpu::kubelet_api {

class SessionRegistry;

// What becomes of a session whose pod goes: most end at once, a log is let come to its own end for a while,
// since its last lines are on their way.
enum class PodGone { EndsIt, LetsItDrain };

class Session {
  public:
    ~Session();
    std::stop_token token() const;
    std::stop_source source() const;  // of the token
    std::stop_token kill_token() const;
    // Why it was ended from outside; "" while it was not.
    std::string reason() const;
    // Ends this session alone.
    void request_stop(const std::string& reason);
    // Soft-stops this session too once `other` stops: the session of the connection below, its peer's end.
    void also_stop_with(std::stop_token other);

  private:
    friend class SessionRegistry;
    struct Entry {
        std::string pod_uid;
        PodGone pod_gone = PodGone::EndsIt;
        std::stop_source soft, hard;
        Guarded<std::string> reason;
        void stop(const std::string& why);
    };
    Session(SessionRegistry& registry, std::shared_ptr<Entry> entry);

    SessionRegistry& registry_;
    std::shared_ptr<Entry> entry_;
    std::list<std::stop_callback<std::function<void()>>> links_;
};

class SessionRegistry {
  public:
    // `pod_uid` "" = not about a pod. After stop_all() sessions are born stopped.
    std::unique_ptr<Session> enter(std::string pod_uid, PodGone pod_gone = PodGone::EndsIt);
    // True when sessions are left that may drain; stop_draining() ends those.
    bool stop_pod(std::string_view pod_uid, const std::string& reason);
    void stop_draining(std::string_view pod_uid, const std::string& reason);
    void stop_all(const std::string& reason);
    void kill_all();

  private:
    friend class Session;
    struct State {
        std::list<std::shared_ptr<Session::Entry>> entries;
        std::optional<std::string> stopped;  // the reason
        bool killed = false;
    };
    std::list<std::shared_ptr<Session::Entry>> entries() const { return state_.lock()->entries; }
    Guarded<State> state_;
};

}  // namespace k8sgpu::kubelet_api
