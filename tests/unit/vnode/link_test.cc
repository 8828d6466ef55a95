// The Node while its provider cannot be reached: LinkState and NodeController together, driven as NodeKeeper
// does.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kube/object.h"
#include "vnode/node_controller.h"
#include "vnode/pod_requests.h"

namespace k8sgpu::vnode {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// A node and the API server that keeps it.
class LinkTest : public ::testing::Test {
  protected:
    LinkTest() : controller_(config(), 1, [this] { return in_use_; }) {
        facts_.capacity = {{"cpu", "64"}, {"memory", "256Gi"}, {"nvidia.com/gpu", "8"}, {"pods", "110"}};
        facts_.provider = Reach::Reachable;
        controller_.set_facts(facts_);
        controller_.on_absent();
        settle();
    }

    static NodeConfig config() {
        NodeConfig config;
        config.node_ip = "192.0.2.10";
        config.provider = "kubernetes";
        config.version = "0.1.0";
        config.taints = {{"k8s.gpu/remote", "", "NoSchedule"}};
        return config;
    }

    // Makes every call that is due now.
    void settle() {
        for (int calls = 0; calls < 20; ++calls) {
            const auto call = controller_.next(now_);
            if (!call) {
                if (controller_.next_wakeup() > now_.now + Duration(1000)) return;
                advance(Duration(500));  // between two writes
                continue;
            }
            make(*call);
        }
        ADD_FAILURE() << "no end of calls";
    }

    void make(const NodeCall& call) {
        if (std::holds_alternative<FetchNode>(call)) {
            controller_.on_node(std::make_shared<const Json>(node_));
            return controller_.on_succeeded(call, now_);
        }
        if (const auto* create = std::get_if<CreateNode>(&call)) {
            node_ = create->node;
            node_["metadata"]["uid"] = "n1";
        } else {
            const auto& patch = std::get<PatchNode>(call);
            ++writes_;
            if (patch.taints && refuse_taints_) {
                const Error refused{ErrorKind::Forbidden, "is not allowed to modify taints", 403, {}};
                return controller_.on_failed(call, refused, now_);
            }
            if (patch.taints) {
                const Json& seen = patch.patch.at("metadata").at("resourceVersion");
                if (seen != node_.at("metadata").at("resourceVersion"))
                    return controller_.on_failed(call, Error{ErrorKind::Conflict, "modified", 409, {}}, now_);
                node_["spec"]["taints"] = patch.patch.at("spec").at("taints");
            } else if (patch.subresource == "status") {
                for (const auto& [key, value] : patch.patch.at("status").items()) {
                    if (key == "conditions" || key == "allocatable") node_["status"][key] = value;
                }
            }
        }
        node_["metadata"]["resourceVersion"] = std::to_string(++version_);
        controller_.on_node(std::make_shared<const Json>(node_));
        controller_.on_succeeded(call, now_);
    }

    void advance(Duration by) { now_ = {now_.now + by, now_.wall + by}; }
    void provider(Reach reach, const std::string& message = "") {
        facts_.provider = reach;
        facts_.provider_message = message;
        controller_.set_facts(facts_);
        settle();
    }
    std::vector<std::string> taints() const {
        std::vector<std::string> keys;
        for (const Json& taint : array_at(node_, {"spec", "taints"}))
            keys.push_back(string_at(taint, {"key"}));
        return keys;
    }
    Json condition(const char* type) const { return kube::find_condition(node_, type); }

    std::map<std::string, std::string> in_use_ = {{"cpu", "2"}, {"nvidia.com/gpu", "3"}, {"pods", "5"}};
    NodeController controller_;
    NodeFacts facts_;
    Times now_{SteadyTime(std::chrono::hours(1)), WallTime(std::chrono::seconds(1'767'225'600))};
    Json node_;
    int version_ = 0;
    int writes_ = 0;
    bool refuse_taints_ = false;
};

TEST_F(LinkTest, An_unreachable_provider_is_told_at_once_and_closes_the_node_after_ten_seconds) {
    provider(Reach::Unreachable, "no route to host");
    EXPECT_EQ(condition("RemoteReachable").at("status"), "False");
    EXPECT_THAT(condition("RemoteReachable").at("message").get<std::string>(),
                HasSubstr("provider kubernetes: no route to host; since 2026-01-01T00:00:0"));
    EXPECT_THAT(taints(), ElementsAre("k8s.gpu/remote"));
    EXPECT_LE(controller_.next_wakeup(), now_.now + Duration(10'000)) << "the ten seconds wake it";
    advance(Duration(10'000));
    settle();
    EXPECT_THAT(taints(), ElementsAre("k8s.gpu/remote", "k8s.gpu/remote-unreachable"));
    EXPECT_EQ(condition("Ready").at("status"), "True");
    EXPECT_EQ(node_.at("status").at("allocatable"), node_.at("status").at("capacity"));
    advance(Duration(86'400'000));
    settle();
    EXPECT_EQ(condition("Ready").at("status"), "True") << "keep-ready keeps it ready for ever";

    provider(Reach::Reachable);
    EXPECT_EQ(condition("RemoteReachable").at("status"), "True");
    EXPECT_THAT(taints(), ElementsAre("k8s.gpu/remote"));
}

TEST_F(LinkTest, A_taint_that_somebody_else_has_set_meanwhile_survives) {
    provider(Reach::Unreachable, "gone");
    advance(Duration(10'000));
    const auto call = controller_.next(now_);
    ASSERT_TRUE(call && std::get<PatchNode>(*call).taints);
    // Written after the agent looked, before its patch arrives.
    node_["spec"]["taints"].push_back({{"key", "example.com/maintenance"}, {"effect", "NoExecute"}});
    node_["metadata"]["resourceVersion"] = std::to_string(++version_);
    make(*call);
    settle();
    EXPECT_THAT(taints(),
                ElementsAre("k8s.gpu/remote", "example.com/maintenance", "k8s.gpu/remote-unreachable"));
    provider(Reach::Reachable);
    EXPECT_THAT(taints(), ElementsAre("k8s.gpu/remote", "example.com/maintenance"));
}

TEST_F(LinkTest, Where_taints_are_refused_allocatable_falls_to_what_is_in_use_and_comes_back) {
    refuse_taints_ = true;
    provider(Reach::Unreachable, "gone");
    advance(Duration(10'000));
    settle();
    const Json held = {{"cpu", "2"}, {"memory", "0"}, {"nvidia.com/gpu", "3"}, {"pods", "5"}};
    EXPECT_EQ(node_.at("status").at("allocatable"), held);
    EXPECT_EQ(node_.at("status").at("capacity").at("cpu"), "64") << "capacity is what it was";
    in_use_ = {{"cpu", "1"}, {"nvidia.com/gpu", "16"}, {"pods", "4"}};
    advance(Duration(10'000));
    settle();
    EXPECT_EQ(node_.at("status").at("allocatable").at("pods"), "4") << "what ends is not given away again";
    EXPECT_EQ(node_.at("status").at("allocatable").at("nvidia.com/gpu"), "8") << "never above capacity";
    EXPECT_TRUE(controller_.registered()) << "a refused taint is no fault of the node";
    const int before = writes_;
    advance(Duration(10'000));
    settle();
    EXPECT_EQ(writes_, before) << "it does not ask at every look";
    provider(Reach::Reachable);
    EXPECT_EQ(node_.at("status").at("allocatable"), node_.at("status").at("capacity"));
}

// An API server that has just started knows no roles yet and refuses nearly everything.
TEST_F(LinkTest, A_refusal_that_passes_leaves_no_taint_behind) {
    provider(Reach::Unreachable, "gone");
    advance(Duration(10'000));
    settle();
    refuse_taints_ = true;
    provider(Reach::Reachable);
    EXPECT_THAT(taints(), ElementsAre("k8s.gpu/remote", "k8s.gpu/remote-unreachable"));
    refuse_taints_ = false;
    advance(Duration(30'000));
    settle();
    EXPECT_THAT(taints(), ElementsAre("k8s.gpu/remote"));
}

TEST_F(LinkTest, The_policy_not_ready_counts_after_its_grace) {
    facts_.link_policy = {true, Duration(60'000)};
    provider(Reach::Unreachable, "gone");
    advance(Duration(50'000));
    settle();
    EXPECT_EQ(condition("Ready").at("status"), "True");
    EXPECT_LE(controller_.next_wakeup(), now_.now + Duration(10'000));
    advance(Duration(10'000));
    settle();
    EXPECT_EQ(condition("Ready").at("status"), "False");
    EXPECT_EQ(condition("Ready").at("reason"), "RemoteUnreachable");
    provider(Reach::Reachable);
    EXPECT_EQ(condition("Ready").at("status"), "True");
}

TEST_F(LinkTest, A_jump_of_wall_time_is_no_outage) {
    facts_.link_policy = {true, Duration(60'000)};
    provider(Reach::Unreachable, "gone");
    now_.wall += std::chrono::hours(10);
    settle();
    EXPECT_EQ(condition("Ready").at("status"), "True");
    EXPECT_THAT(taints(), ElementsAre("k8s.gpu/remote"));
}

TEST_F(LinkTest, Changing_words_about_the_same_outage_are_written_once_a_minute) {
    provider(Reach::Unreachable, "timed out after 10001 ms");
    const int before = writes_;
    for (int i = 0; i < 8; ++i) {
        advance(Duration(1000));
        provider(Reach::Unreachable, "timed out after 1000" + std::to_string(i) + " ms");
    }
    EXPECT_EQ(writes_, before);
    advance(Duration(60'000));
    provider(Reach::Unreachable, "connection refused");
    EXPECT_THAT(condition("RemoteReachable").at("message").get<std::string>(),
                HasSubstr("connection refused"));
}

TEST_F(LinkTest, A_restart_during_an_outage_neither_opens_the_node_nor_forgets_since_when) {
    refuse_taints_ = true;
    provider(Reach::Unreachable, "gone");
    advance(Duration(10'000));
    settle();
    const Json before = node_;

    controller_ = NodeController(config(), 2, [this] { return in_use_; });
    advance(Duration(120'000));
    provider(Reach::Unknown);
    EXPECT_EQ(condition("RemoteReachable").at("message"),
              kube::find_condition(before, "RemoteReachable").at("message"));
    EXPECT_EQ(node_.at("status").at("allocatable"), before.at("status").at("allocatable"));
    provider(Reach::Unreachable, "still gone");
    EXPECT_EQ(condition("RemoteReachable").at("lastTransitionTime"),
              kube::find_condition(before, "RemoteReachable").at("lastTransitionTime"));
}

Json container(const char* gpus, const char* cpu) {
    return {{"resources", {{"requests", {{"nvidia.com/gpu", gpus}, {"cpu", cpu}}}}}};
}

TEST(PodRequests, Are_what_the_scheduler_counts) {
    Json sidecar = container("0", "100m");
    sidecar["restartPolicy"] = "Always";
    const Json pod = {{"spec",
                       {{"containers", {container("1", "500m"), container("1", "500m")}},
                        {"initContainers", {container("0", "200m"), sidecar, container("0", "4")}},
                        {"overhead", {{"cpu", "250m"}}}}}};
    auto requests = pod_requests(pod);
    EXPECT_EQ(requests["cpu"].to_string(), "4350m")
        << "the last init container beside the sidecar, and overhead";
    EXPECT_EQ(requests["nvidia.com/gpu"].to_string(), "2");
    Json ended = pod;
    ended["status"]["phase"] = "Succeeded";
    const auto used =
        requests_in_use({std::make_shared<const Json>(pod), std::make_shared<const Json>(ended)});
    EXPECT_EQ(used.at("pods"), "1");
    EXPECT_EQ(used.at("nvidia.com/gpu"), "2");
}

}  // namespace
}  // namespace k8sgpu::vnode
