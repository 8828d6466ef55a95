// The shells around the controllers, where threads meet: what is slow must not hold up what is not.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <latch>
#include <thread>

#include "kube/testing/fake_transport.h"
#include "tests/unit/kubelet_api/fake_provider.h"
#include "vnode/node_keeper.h"
#include "vnode/pod_executor.h"

namespace k8sgpu::vnode {
namespace {

constexpr const char* kLease = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/k8s.gpu";

NodeConfig config() {
    NodeConfig config;
    config.node_ip = "192.0.2.10";
    config.provider = "kubernetes";
    config.version = "0.1.0";
    return config;
}

// Writes and watches of the Node take until their deadline, everything else is answered at once.
class SlowNodeWrites final : public kube::Transport {
  public:
    explicit SlowNodeWrites(kube::Transport& inner) : inner_(inner) {}
    Result<kube::Response> send(const kube::Request& request, const CallContext& ctx) override {
        if (request.method == "PATCH" && request.path.starts_with("/api/v1/nodes/")) {
            ++writes;
            ctx.clock().sleep_until(ctx.deadline(), ctx.stop());
            return fail(ErrorKind::Timeout, "no answer in time");
        }
        return inner_.send(request, ctx);
    }
    Result<std::unique_ptr<kube::ResponseStream>> open(const kube::Request&,
                                                       const CallContext& ctx) override {
        ctx.clock().sleep_until(ctx.deadline(), ctx.stop());
        return fail(ErrorKind::Timeout, "no answer in time");
    }
    Result<kube::Upgraded> upgrade(const kube::Request& request, const CallContext& ctx) override {
        return inner_.upgrade(request, ctx);
    }

    std::atomic<int> writes{0};

  private:
    kube::Transport& inner_;
};

// Within ten real seconds.
bool happens(const std::function<bool()>& condition) {
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    while (!condition() && std::chrono::steady_clock::now() < until) std::this_thread::yield();
    return condition();
}

TEST(Heartbeat, Does_not_wait_for_a_Node_that_cannot_be_written) {
    FakeClock clock;
    kube::FakeTransport api;
    const Json node = {{"kind", "Node"},
                       {"metadata", {{"name", "k8s.gpu"}, {"uid", "n1"}, {"resourceVersion", "1"}}},
                       {"spec", {{"providerID", "k8sgpu://k8s.gpu"}}}};
    api.reply("GET", "/api/v1/nodes", 200,
              {{"kind", "NodeList"}, {"metadata", {{"resourceVersion", "1"}}}, {"items", {node}}});
    api.reply("GET", "/api/v1/nodes/k8s.gpu", 200, node);
    const Json lease = {{"kind", "Lease"}, {"metadata", {{"name", "k8s.gpu"}}}};
    api.reply("POST", "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases", 201, lease);
    api.reply("GET", kLease, 200, lease);
    api.reply("PUT", kLease, 200, lease);
    SlowNodeWrites slow(api);
    kube::ApiClient client(slow);
    NodeKeeper keeper(config(), NodeFacts{}, clock, client, 1);
    keeper.start();
    while (api.requests("PUT", kLease).empty()) {
        ASSERT_TRUE(clock.wait_for_sleepers(3));
        clock.advance(Duration(500));  // the lease waits for the Node's UID
    }
    // Six times the writing of the Node takes its ten seconds, and six times the lease is renewed when it is
    // due.
    std::optional<SteadyTime> before;
    for (std::size_t renewals = 2; renewals <= 7; ++renewals) {
        ASSERT_TRUE(happens([&] { return keeper.lease_renewed_at() != before; }));
        before = keeper.lease_renewed_at();
        clock.advance(Duration(10'000));
        ASSERT_TRUE(api.wait_for_requests("PUT", kLease, renewals)) << "not renewed when it was due";
    }
    EXPECT_GE(slow.writes.load(), 3) << "the Node was tried all the while";
    keeper.stop();
    EXPECT_GE(api.requests("PUT", kLease).size(), 8U) << "and once more at the end";
}

Json pod(const std::string& name) {
    return {{"kind", "Pod"},
            {"metadata",
             {{"namespace", "default"}, {"name", name}, {"uid", "uid-" + name}, {"resourceVersion", "1"}}},
            {"spec", {{"nodeName", "k8s.gpu"}, {"containers", Json::array({{{"name", "main"}}})}}},
            {"status", {{"phase", "Pending"}}}};
}

class FlushTest : public ::testing::Test {
  protected:
    // Two statuses to write by one thread; the first write is held until `release_`.
    std::size_t writes_after_stop(Duration flush) {
        SystemClock clock;
        kube::FakeTransport api;
        kube::ApiClient client(api);
        MetricsRegistry metrics;
        kubelet_api::FakeProvider provider;
        api.handle("PATCH", "/api/v1/namespaces/default/pods/*",
                   [this](const kube::Request&) -> Result<kube::Response> {
                       release_.wait();
                       return fail(ErrorKind::Conflict, "later");
                   });
        PodExecutorOptions options;
        options.controller = {"k8s.gpu", "fake", "192.0.2.10", PodIpPolicy::Remote};
        options.status_threads = 1;
        PodExecutor executor(
            options, clock, client, provider, metrics, [](auto&&...) {}, [](const PodId&) {},
            [](bool, auto&&) {});
        executor.start();
        executor.on_listed({std::make_shared<const Json>(pod("a")), std::make_shared<const Json>(pod("b"))});
        EXPECT_TRUE(api.wait_for_requests("PATCH", "/api/v1/namespaces/default/pods/*", 1));
        Thread stopping("stopping", [&](std::stop_token) { executor.stop(clock.now() + flush); });
        release_.count_down();
        stopping.join();
        return api.requests("PATCH", "/api/v1/namespaces/default/pods/*").size();
    }
    std::latch release_{1};
};

TEST_F(FlushTest, Statuses_that_wait_are_written_before_the_end) {
    EXPECT_GE(writes_after_stop(Duration(10'000)), 2U);
}

}  // namespace
}  // namespace k8sgpu::vnode
