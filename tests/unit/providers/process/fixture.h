// A provider over a temporary directory, an observer that remembers, and short-lived pods. Every pod that a
// test leaves behind is killed at its end, and a process that survives that fails the test.
#pragma once

#include <gtest/gtest.h>

#include <atomic>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "common/guarded.h"
#include "providers/process/process_provider.h"

namespace k8sgpu::providers::process {

// Polls until `pred` holds; false after `patience`.
bool eventually(const std::function<bool()>& pred, Duration patience = Duration(20'000));

class FakeObserver final : public ProviderObserver {
  public:
    void on_pod_changed(const ObservedPod& pod) override;
    void on_pod_event(const PodId& pod, const std::string& type, const std::string& reason,
                      const std::string& message) override;
    void on_reachable_changed(bool, const std::string&) override {}

    std::optional<ObservedPod> latest(const std::string& uid) const;
    bool has_event(const std::string& uid,
                   const std::string& text) const;  // "Warning BackOff …", a part of it

  private:
    struct Seen {
        std::map<std::string, ObservedPod> pods;
        std::vector<std::pair<std::string, std::string>> events;
    };
    Guarded<Seen> seen_;
};

class FakeObjects final : public LocalObjects {
  public:
    Result<Json> fetch(LocalKind kind, const std::string& ns, const std::string& name,
                       const CallContext&) override;
    void put(LocalKind kind, const std::string& name, Json data);

  private:
    Guarded<std::map<std::pair<LocalKind, std::string>, Json>> objects_;
};

class StringSink final : public LogSink {
  public:
    Result<void> begin() override;
    Result<void> write(std::string_view bytes) override;
    std::string text() const { return *text_.lock(); }
    bool begun() const { return begun_; }

  private:
    Guarded<std::string> text_;
    std::atomic<bool> begun_ = false;
};

class ProviderTest : public testing::Test {
  protected:
    void SetUp() override;
    void TearDown() override;

    // A pod with one container "c" that runs `script` in sh, restartPolicy Never.
    DesiredPod pod(const std::string& script);
    // Options for the next restart_provider().
    ProcessProviderOptions& options() { return options_; }
    void restart_provider();
    ProcessProvider& provider() { return *provider_; }
    FakeObserver& observer() { return *observer_; }
    FakeObjects& objects() { return objects_; }

    CallContext context(Duration timeout = Duration(20'000)) const;
    void run(const DesiredPod& desired);  // ensure(), expecting Accepted
    ObservedPod observe(const DesiredPod& desired);
    Json container(const DesiredPod& desired, const std::string& name = "c");
    std::string phase(const DesiredPod& desired);
    bool wait_running(const DesiredPod& desired);
    bool wait_ended(const DesiredPod& desired);
    std::string log_of(const DesiredPod& desired, const std::function<void(LogRequest&)>& change = {});
    std::string read(const std::string& path) const;
    PodPaths paths(const DesiredPod& desired) const { return pod_paths(state_, desired.id.uid); }
    pid_t shim_pid(const DesiredPod& desired) const;
    std::set<pid_t> living(const DesiredPod& desired) const;  // its processes, without the shim

    mutable SystemClock clock_;
    std::string state_;
    std::stop_source stop_;

  private:
    ProcessProviderOptions options_;
    FakeObjects objects_;
    std::unique_ptr<FakeObserver> observer_;
    std::unique_ptr<ProcessProvider> provider_;
    std::vector<DesiredPod> pods_;
    static inline int count_ = 0;
};

}  // namespace k8sgpu::providers::process
