#include "providers/simulated/simulated_provider.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <condition_variable>
#include <filesystem>
#include <fstream>

#include "common/file.h"
#include "kube/object.h"

namespace k8sgpu::providers::simulated {
namespace {

using namespace std::chrono_literals;
using ::testing::HasSubstr;
using ::testing::SizeIs;

class Observer final : public ProviderObserver {
  public:
    void on_pod_changed(const ObservedPod& pod) override {
        {
            const std::lock_guard lock(mutex_);
            last_[pod.id.uid] = pod;
        }
        changed_.notify_all();
    }
    void on_pod_event(const PodId&, const std::string&, const std::string&, const std::string&) override {}
    void on_reachable_changed(bool, const std::string&) override {}

    // Waits ten real seconds at most.
    bool eventually(const std::string& uid, const std::function<bool(const ObservedPod&)>& holds) {
        std::unique_lock lock(mutex_);
        return changed_.wait_for(lock, 10s, [&] { return last_.contains(uid) && holds(last_[uid]); });
    }

  private:
    std::mutex mutex_;
    std::condition_variable changed_;
    std::map<std::string, ObservedPod> last_;
};

class StringSink final : public LogSink {
  public:
    Result<void> begin() override { return {}; }
    Result<void> write(std::string_view bytes) override {
        text += bytes;
        return {};
    }
    std::string text;
};

class SimulatedProviderTest : public ::testing::Test {
  protected:
    SimulatedProviderTest() {
        char name[] = "/tmp/k8sgpu-simulated-XXXXXX";
        directory = ::mkdtemp(name);
    }
    ~SimulatedProviderTest() override { std::filesystem::remove_all(directory); }
    std::unique_ptr<SimulatedProvider> provider() {
        SimulatedProviderOptions options;
        options.state_directory = directory;
        return std::make_unique<SimulatedProvider>(std::move(options), clock);
    }
    DesiredPod pod(const std::string& uid, const std::string& run_for = "") {
        Json json = {{"metadata", {{"namespace", "default"}, {"name", "a"}, {"uid", uid}}},
                     {"spec",
                      {{"restartPolicy", "Never"},
                       {"containers", Json::array({{{"name", "main"}, {"image", "app:1"}}})}}}};
        if (!run_for.empty()) json["metadata"]["annotations"]["simulated.k8s.gpu/run-for"] = run_for;
        return {kube::pod_id(json), json};
    }
    CallContext call() { return CallContext::with_timeout(clock, 30s, {}); }

    std::string directory;
    FakeClock clock;
    Observer observer;
};

bool is_running(const ObservedPod& pod) {
    return string_at(pod.status, {"phase"}) == "Running";
}

TEST_F(SimulatedProviderTest, A_pod_starts_runs_and_goes_when_it_is_removed) {
    auto simulated = provider();
    ASSERT_TRUE(simulated->start(observer));
    ASSERT_TRUE(simulated->ensure(pod("u1"), call()));
    ASSERT_TRUE(clock.wait_for_sleepers(1));
    clock.advance(1100ms);
    EXPECT_TRUE(observer.eventually("u1", is_running));
    ASSERT_TRUE(simulated->remove(pod("u1").id, 30s, call()));
    EXPECT_TRUE(observer.eventually("u1", [](const ObservedPod& p) { return p.removing; }));
    clock.advance(2s);
    EXPECT_TRUE(observer.eventually("u1", [](const ObservedPod& p) { return p.gone; }));
    EXPECT_THAT(*simulated->list(call()), SizeIs(0));
}

TEST_F(SimulatedProviderTest, A_restarted_agent_finds_its_pods_where_they_would_be_by_now) {
    {
        auto simulated = provider();
        ASSERT_TRUE(simulated->start(observer));
        ASSERT_TRUE(simulated->ensure(pod("u1", "60s"), call()));
        ASSERT_TRUE(simulated->ensure(pod("u2"), call()));
    }
    clock.advance(30s);
    auto simulated = provider();
    ASSERT_TRUE(simulated->start(observer));
    EXPECT_TRUE(observer.eventually("u2", is_running));
    EXPECT_TRUE(is_running(*simulated->observe(pod("u1").id, call())));
    simulated = nullptr;
    clock.advance(1h);
    simulated = provider();
    ASSERT_TRUE(simulated->start(observer));
    ASSERT_TRUE(simulated->ensure(pod("u1", "60s"), call())) << "and does not start again";
    EXPECT_EQ(string_at(simulated->observe(pod("u1").id, call())->status, {"phase"}), "Succeeded");
}

TEST_F(SimulatedProviderTest, Nothing_starts_that_no_file_will_remember) {
    auto simulated = provider();
    ASSERT_TRUE(simulated->start(observer));
    simulated->stop();
    std::filesystem::remove_all(directory);
    EXPECT_FALSE(simulated->ensure(pod("u1"), call()));
    EXPECT_THAT(*simulated->list(call()), SizeIs(0));
}

TEST_F(SimulatedProviderTest, A_broken_journal_stops_the_start) {
    std::ofstream(directory + "/simulated-pods.json") << R"({"pods":[{"name":"a"}]})";
    const auto started = provider()->start(observer);
    ASSERT_FALSE(started);
    EXPECT_THAT(started.error().message, HasSubstr("simulated-pods.json"));
}

TEST_F(SimulatedProviderTest, A_script_that_cannot_be_read_is_refused_with_its_annotation) {
    auto simulated = provider();
    const auto refused = simulated->check(pod("u1", "soon"));
    ASSERT_TRUE(refused);
    EXPECT_THAT(refused->message, HasSubstr("simulated.k8s.gpu/run-for"));
}

TEST_F(SimulatedProviderTest, Logs_have_one_line_and_following_ends_with_the_pod) {
    auto simulated = provider();
    ASSERT_TRUE(simulated->start(observer));
    ASSERT_TRUE(simulated->ensure(pod("u1", "5s"), call()));
    ASSERT_TRUE(clock.wait_for_sleepers(1));
    clock.advance(10s);
    ASSERT_TRUE(observer.eventually("u1", [](const ObservedPod& p) { return !p.may_be_running; }));
    StringSink sink;
    LogRequest request;
    request.pod = pod("u1").id;
    request.container = "main";
    request.follow = true;
    ASSERT_TRUE(simulated->logs(request, sink, call()));
    EXPECT_EQ(sink.text, "simulated container main of pod default/a started, restarts: 0\n");
    request.previous = true;
    EXPECT_FALSE(simulated->logs(request, sink, call()));
}

}  // namespace
}  // namespace k8sgpu::providers::simulated
