#include "vnode/drain.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kube/testing/fake_transport.h"
#include "vnode/uninstall.h"

namespace k8sgpu::vnode {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

Json pod(const std::string& name, const std::string& owner = "ReplicaSet") {
    Json made = {{"kind", "Pod"},
                 {"apiVersion", "v1"},
                 {"metadata", {{"name", name}, {"namespace", "default"}, {"uid", "uid-" + name}}},
                 {"spec", {{"nodeName", "k8s.gpu"}}},
                 {"status", {{"phase", "Running"}}}};
    if (!owner.empty())
        made["metadata"]["ownerReferences"] =
            Json::array({{{"kind", owner}, {"name", "o"}, {"uid", "o1"}, {"controller", true}}});
    return made;
}

TEST(DrainPlan, Refuses_what_kubectl_drain_refuses_and_says_the_flag) {
    Json storing = pod("storing");
    storing["spec"]["volumes"] = Json::array({{{"name", "scratch"}, {"emptyDir", Json::object()}}});
    const std::vector<Json> pods = {pod("bare", ""), pod("agent", "DaemonSet"), storing, pod("fine")};
    DrainOptions options;
    EXPECT_THAT(
        plan_drain(pods, options).refusals,
        ElementsAre("cannot delete DaemonSet-managed Pods (use --ignore-daemonsets to ignore): default/agent",
                    "cannot delete Pods that declare no controller (use --force to override): default/bare",
                    "cannot delete Pods with local storage (use --delete-emptydir-data to override): "
                    "default/storing"));
    options.force = options.ignore_daemonsets = options.delete_emptydir_data = true;
    const DrainPlan plan = plan_drain(pods, options);
    EXPECT_THAT(plan.refusals, IsEmpty());
    EXPECT_EQ(plan.evict.size(), 3U) << "the DaemonSet's pod stays";
    EXPECT_THAT(plan.warnings, ElementsAre("deleting Pods that declare no controller: default/bare",
                                           "ignoring DaemonSet-managed Pods: default/agent"));
}

TEST(DrainPlan, Pods_that_have_ended_need_no_flag) {
    Json done = pod("done", "");
    done["status"]["phase"] = "Succeeded";
    done["spec"]["volumes"] = Json::array({{{"name", "scratch"}, {"emptyDir", Json::object()}}});
    const DrainPlan plan = plan_drain({done}, {});
    EXPECT_THAT(plan.refusals, IsEmpty());
    EXPECT_EQ(plan.evict.size(), 1U);
}

// Whoever waits has waited already: for code on one thread.
class HastyClock final : public Clock {
  public:
    SteadyTime now() const override { return now_; }
    WallTime wall_now() const override { return {}; }
    bool wait_until(std::condition_variable_any&, std::unique_lock<std::mutex>&, SteadyTime until,
                    std::stop_token, const std::function<bool()>& pred) override {
        now_ = std::max(now_, until);
        return pred();
    }

  private:
    SteadyTime now_{std::chrono::hours(1)};
};

const Json kDone = {{"kind", "Status"}, {"status", "Success"}};

class DrainTest : public ::testing::Test {
  protected:
    DrainTest() {
        node_ = {{"metadata", {{"name", "k8s.gpu"}}}, {"spec", {{"providerID", "k8sgpu://k8s.gpu"}}}};
        api_.reply("GET", "/api/v1/nodes/k8s.gpu", 200, node_);
        api_.reply("PATCH", "/api/v1/nodes/k8s.gpu", 200, node_);
        api_.handle("GET", "/api/v1/pods", [this](const kube::Request&) -> Result<kube::Response> {
            Json list = {{"kind", "PodList"}, {"metadata", {{"resourceVersion", "5"}}}, {"items", pods_}};
            return kube::Response{200, {}, dump_json(list)};
        });
    }
    Result<void> drain(DrainOptions options = {}, Duration timeout = Duration(60'000)) {
        Drainer drainer(client_, "k8s.gpu", options, console());
        auto outcome = drainer.run(CallContext::with_timeout(clock_, timeout, {}));
        return outcome;
    }
    Console console() {
        return {[this](const std::string& line) { out_.push_back(line); },
                [this](const std::string& line) { err_.push_back(line); }};
    }

    HastyClock clock_;
    kube::FakeTransport api_;
    kube::ApiClient client_{api_};
    Json node_;
    std::vector<Json> pods_;
    std::vector<std::string> out_, err_;
};

TEST_F(DrainTest, Cordons_evicts_and_waits_until_the_pod_is_gone) {
    pods_ = {pod("a")};
    api_.reply("POST", "/api/v1/namespaces/default/pods/a/eviction", 201, kDone);
    api_.reply_once("GET", "/api/v1/namespaces/default/pods/a", 200, pod("a"));
    ASSERT_TRUE(drain());
    EXPECT_THAT(out_, ElementsAre("node/k8s.gpu cordoned", "evicting pod default/a", "pod/a evicted",
                                  "node/k8s.gpu drained"));
    const auto evictions = api_.requests("POST", "/api/v1/namespaces/default/pods/a/eviction");
    ASSERT_EQ(evictions.size(), 1U);
    EXPECT_EQ(Json::parse(evictions[0].body).at("deleteOptions").at("preconditions").at("uid"), "uid-a");
    EXPECT_EQ(api_.requests("GET", "/api/v1/namespaces/default/pods/a").size(), 2U);
}

TEST_F(DrainTest, A_disruption_budget_is_asked_again_until_it_allows) {
    pods_ = {pod("a")};
    const Json no = {{"kind", "Status"},
                     {"message", "Cannot evict pod as it would violate the pod's disruption budget."}};
    api_.reply_once("POST", "/api/v1/namespaces/default/pods/a/eviction", 429, no);
    api_.reply_once("POST", "/api/v1/namespaces/default/pods/a/eviction", 429, no);
    api_.reply("POST", "/api/v1/namespaces/default/pods/a/eviction", 201, kDone);
    api_.handle("GET", "/api/v1/namespaces/default/pods/a",
                [this](const kube::Request&) -> Result<kube::Response> {
                    const bool evicted =
                        api_.requests("POST", "/api/v1/namespaces/default/pods/a/eviction").size() > 2;
                    return kube::Response{evicted ? 404 : 200, {}, dump_json(pod("a"))};
                });
    ASSERT_TRUE(drain());
    EXPECT_EQ(err_.size(), 2U);
    EXPECT_THAT(err_[0], HasSubstr("will retry after 5s): Cannot evict pod"));
}

TEST_F(DrainTest, A_budget_that_never_allows_ends_with_the_timeout_and_the_name) {
    pods_ = {pod("a")};
    api_.reply("POST", "/api/v1/namespaces/default/pods/a/eviction", 429,
               {{"kind", "Status"}, {"message", "no"}});
    api_.reply("GET", "/api/v1/namespaces/default/pods/a", 200, pod("a"));
    const auto outcome = drain({}, Duration(12'000));
    ASSERT_FALSE(outcome);
    EXPECT_EQ(outcome.error().kind, ErrorKind::Timeout);
    EXPECT_THAT(outcome.error().message, HasSubstr("default/a"));
}

TEST_F(DrainTest, A_dry_run_changes_nothing) {
    pods_ = {pod("a")};
    DrainOptions options;
    options.dry_run = true;
    ASSERT_TRUE(drain(options));
    EXPECT_THAT(out_, ElementsAre("node/k8s.gpu cordoned (dry run)", "evicting pod default/a (dry run)",
                                  "node/k8s.gpu drained (dry run)"));
    for (const auto& request : api_.requests()) EXPECT_EQ(request.method, "GET") << request.path;
}

TEST_F(DrainTest, A_node_of_somebody_else_is_not_touched) {
    node_["spec"]["providerID"] = "aws:///i-1";
    api_.reply_once("GET", "/api/v1/nodes/k8s.gpu", 200, node_);
    const auto outcome = drain();
    ASSERT_FALSE(outcome);
    EXPECT_THAT(outcome.error().message, HasSubstr("use kubectl drain"));
    EXPECT_THAT(api_.requests("PATCH", "/api/v1/nodes/k8s.gpu"), IsEmpty());
}

class UninstallTest : public DrainTest {
  protected:
    static constexpr const char* kLease =
        "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/k8s.gpu";
    UninstallTest() {
        api_.handle("GET", kLease, [this](const kube::Request&) -> Result<kube::Response> {
            if (renewals_left_ > 0) --renewals_left_;
            const Json lease = {{"kind", "Lease"},
                                {"metadata", {{"name", "k8s.gpu"}}},
                                {"spec", {{"renewTime", std::to_string(renewals_left_)}}}};
            return kube::Response{200, {}, dump_json(lease)};
        });
        api_.reply("DELETE", kLease, 200, kDone);
        api_.reply("DELETE", "/api/v1/nodes/k8s.gpu", 200, kDone);
        api_.reply("GET", "/apis/certificates.k8s.io/v1/certificatesigningrequests", 200,
                   {{"kind", "CertificateSigningRequestList"},
                    {"metadata", {{"resourceVersion", "9"}}},
                    {"items", Json::array()}});
    }
    Result<void> uninstall() {
        Uninstaller uninstaller(client_, options_, console(),
                                [this](const CallContext&) -> Result<std::vector<std::string>> {
                                    if (left_.empty()) return std::vector<std::string>{};
                                    auto now = left_;
                                    left_.pop_back();
                                    return now;
                                });
        auto outcome = uninstaller.run(CallContext::with_timeout(clock_, Duration(600'000), {}));
        return outcome;
    }
    Options options_;
    int renewals_left_ = 0;
    std::vector<std::string> left_;
};

TEST_F(UninstallTest, Waits_for_the_provider_then_for_the_agent_and_removes_lease_and_node) {
    renewals_left_ = 12;
    left_ = {"pod a", "secret b"};
    const auto outcome = uninstall();
    ASSERT_TRUE(outcome) << outcome.error().message;
    EXPECT_THAT(err_,
                ElementsAre(HasSubstr("still at the provider: pod a, secret b"), HasSubstr("stop it now")));
    EXPECT_THAT(out_, ElementsAre("node/k8s.gpu cordoned", "node/k8s.gpu drained",
                                  "lease.coordination.k8s.io/k8s.gpu deleted", "node/k8s.gpu deleted",
                                  "node/k8s.gpu uninstalled"));
}

TEST_F(UninstallTest, Refuses_while_pods_remain_that_no_agent_could_end) {
    pods_ = {pod("a")};
    const auto outcome = uninstall();
    ASSERT_FALSE(outcome);
    EXPECT_THAT(outcome.error().message,
                HasSubstr("start k8sgpu again, or leave them to the provider with --abandon-pods"));
    EXPECT_THAT(api_.requests("DELETE", "/api/v1/nodes/k8s.gpu"), IsEmpty());
    EXPECT_THAT(api_.requests("PATCH", "/api/v1/nodes/k8s.gpu"), IsEmpty()) << "not even cordoned";
}

TEST_F(UninstallTest, Abandons_pods_when_it_is_told_to) {
    pods_ = {pod("a")};
    options_.drain.abandon_pods = true;
    ASSERT_TRUE(uninstall());
    EXPECT_EQ(api_.requests("DELETE", "/api/v1/nodes/k8s.gpu").size(), 1U);
}

}  // namespace
}  // namespace k8sgpu::vnode
