// Writes down what a Reflector tells it: "listed a,b", "applied a@3", "deleted a", "error Forbidden",
// "recovered".
#pragma once

#include <condition_variable>
#include <mutex>
#include <string>
#include <vector>

#include "kube/object.h"
#include "kube/reflector.h"

namespace k8sgpu::kube {

class RecordingHandler final : public ReflectorHandler {
  public:
    void on_listed(std::vector<ObjectPtr> objects) override {
        std::string names;
        for (const ObjectPtr& object : objects) names += (names.empty() ? "" : ",") + name_of(*object);
        add("listed " + names);
    }
    void on_applied(ObjectPtr object) override {
        add("applied " + name_of(*object) + "@" + resource_version_of(*object));
    }
    void on_deleted(ObjectPtr object) override { add("deleted " + name_of(*object)); }
    void on_error(const Error& error) override {
        std::lock_guard lock(mutex_);
        last_error_ = error.message;
        lines_.push_back("error " + std::string(to_string(error.kind)));
        changed_.notify_all();
    }
    void on_recovered() override { add("recovered"); }

    // All lines once there are `count`; what is there after ten seconds otherwise.
    std::vector<std::string> wait_for(std::size_t count) {
        std::unique_lock lock(mutex_);
        changed_.wait_for(lock, std::chrono::seconds(10), [&] { return lines_.size() >= count; });
        return lines_;
    }
    std::string last_error() {
        std::lock_guard lock(mutex_);
        return last_error_;
    }

  private:
    void add(std::string line) {
        std::lock_guard lock(mutex_);
        lines_.push_back(std::move(line));
        changed_.notify_all();
    }
    std::mutex mutex_;
    std::condition_variable changed_;
    std::vector<std::string> lines_;
    std::string last_error_;
};

}  // namespace k8sgpu::kube
