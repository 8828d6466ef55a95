// Builders and fakes that the tests of this folder share.
#pragma once

#include <condition_variable>
#include <map>
#include <string>
#include <vector>

#include "common/clock.h"
#include "common/guarded.h"
#include "common/json.h"
#include "providers/kubernetes/translate.h"
#include "providers/port/local_objects.h"
#include "providers/port/provider.h"

namespace k8sgpu::providers::kubernetes {

inline const PodId kPod{"default", "train-0", "0a1b2c3d-0000-4000-8000-000000000001"};
inline const OwnerMark kOwner{"11111111-2222-4333-8444-555555555555", "k8s.gpu"};

inline TranslateOptions test_options() {
    TranslateOptions options;
    options.remote_namespace = "gpu";
    options.tenant_name = "acme";
    options.owner = kOwner;
    options.host_ips = {"10.0.0.9"};
    return options;
}

// A pod as the API server stores it, with one container and the given additions merged into its spec.
inline DesiredPod desired_pod(const Json& spec = Json::object(), const PodId& id = kPod) {
    Json pod = {{"apiVersion", "v1"},
                {"kind", "Pod"},
                {"metadata", {{"name", id.name}, {"namespace", id.ns}, {"uid", id.uid}}},
                {"spec",
                 {{"nodeName", "k8s.gpu"},
                  {"restartPolicy", "Always"},
                  {"containers", Json::array({{{"name", "main"}, {"image", "busybox"}}})}}}};
    if (spec.is_object()) pod["spec"].merge_patch(spec);
    return {id, std::move(pod)};
}

class MapObjects final : public LocalObjects {
  public:
    void set(LocalKind kind, const std::string& name, Json object) {
        object["metadata"]["name"] = name;
        object["metadata"]["namespace"] = "default";
        (*objects_.lock())[{kind, name}] = std::move(object);
    }
    void fail_with(Error error) { *error_.lock() = std::move(error); }
    std::vector<std::string> fetched() const { return *fetched_.lock(); }

    Result<Json> fetch(LocalKind kind, const std::string& ns, const std::string& name,
                       const CallContext&) override {
        fetched_.lock()->push_back(ns + "/" + name);
        if (auto error = error_.lock(); *error) return fail(**error);
        auto objects = objects_.lock();
        const auto found = objects->find({kind, name});
        if (found == objects->end() || ns != "default") return fail(ErrorKind::NotFound, name + " not found");
        return found->second;
    }

  private:
    Guarded<std::map<std::pair<LocalKind, std::string>, Json>> objects_;
    Guarded<std::optional<Error>> error_;
    Guarded<std::vector<std::string>> fetched_;
};

// Remembers what it is told; waits for it, at most ten real seconds.
class RecordingObserver final : public ProviderObserver {
  public:
    struct Event {
        PodId pod;
        std::string type, reason, message;
    };
    struct Seen {
        std::vector<ObservedPod> pods;
        std::vector<Event> events;
        std::vector<std::pair<bool, std::string>> reachable;
    };
    void on_pod_changed(const ObservedPod& pod) override {
        add([&](Seen& s) { s.pods.push_back(pod); });
    }
    void on_pod_event(const PodId& pod, const std::string& type, const std::string& reason,
                      const std::string& message) override {
        add([&](Seen& s) { s.events.push_back({pod, type, reason, message}); });
    }
    void on_reachable_changed(bool reachable, const std::string& message) override {
        add([&](Seen& s) { s.reachable.emplace_back(reachable, message); });
    }

    template <typename Pred>
    bool wait_for(Pred pred) {
        std::unique_lock lock(mutex_);
        return changed_.wait_for(lock, std::chrono::seconds(10), [&] { return pred(seen_); });
    }
    Seen seen() const {
        std::lock_guard lock(mutex_);
        return seen_;
    }

  private:
    template <typename F>
    void add(F f) {
        {
            std::lock_guard lock(mutex_);
            f(seen_);
        }
        changed_.notify_all();
    }
    mutable std::mutex mutex_;
    std::condition_variable changed_;
    Seen seen_;
};

}  // namespace k8sgpu::providers::kubernetes
