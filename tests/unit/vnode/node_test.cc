#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kube/object.h"
#include "vnode/capacity_keeper.h"
#include "vnode/lease_controller.h"
#include "vnode/node_controller.h"

namespace k8sgpu::vnode {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

const Times kStart{SteadyTime(std::chrono::hours(1)), WallTime(std::chrono::seconds(1'767'225'600))};

Times later(Duration by) {
    return {kStart.now + by, kStart.wall + by};
}

NodeConfig config() {
    NodeConfig config;
    config.node_ip = "192.0.2.10";
    config.provider = "kubernetes";
    config.version = "0.1.0";
    config.taints = {{"k8s.gpu/remote", "", "NoSchedule"}};
    return config;
}

NodeFacts facts() {
    NodeFacts facts;
    facts.capacity = {{"cpu", "64"},
                      {"memory", "256Gi"},
                      {"pods", "110"},
                      {"ephemeral-storage", "512Gi"},
                      {"nvidia.com/gpu", "8"}};
    facts.server_version = "v1.36.3";
    facts.provider = Reach::Reachable;
    return facts;
}

LinkReport answering() {
    return {Reach::Reachable, "", true, std::nullopt};
}

// What OSMO, KAI, metrics-server and the scheduler trip over when it is missing (each line has broken one of
// them).
TEST(NodeObject, The_creating_post_passes_the_lint_of_its_readers) {
    const Json node = build_node(config(), facts(), answering(), kStart.wall);
    const Json& labels = node.at("metadata").at("labels");
    EXPECT_EQ(labels.at("kubernetes.io/hostname"), node.at("metadata").at("name"));
    EXPECT_EQ(labels.at("kubernetes.io/os"), "linux");
    EXPECT_THAT((std::set<std::string>{"amd64", "arm64"}),
                ::testing::Contains(labels.at("kubernetes.io/arch").get<std::string>()));
    const Json& status = node.at("status");
    for (const char* resource : {"cpu", "memory", "pods", "ephemeral-storage"}) {
        EXPECT_TRUE(status.at("allocatable").contains(resource)) << resource;
        EXPECT_EQ(status.at("allocatable").at(resource), status.at("capacity").at(resource)) << resource;
    }
    ASSERT_FALSE(status.at("conditions").empty());
    EXPECT_EQ(status.at("conditions").back().at("type"), "Ready");
    for (const Json& condition : status.at("conditions")) {
        EXPECT_TRUE(condition.contains("lastTransitionTime")) << condition;
        EXPECT_TRUE(condition.contains("lastHeartbeatTime")) << condition;
    }
    EXPECT_EQ(kube::find_condition(node, "NetworkUnavailable").at("status"), "False");
    EXPECT_EQ(status.at("addresses"), Json::parse(R"([{"type":"InternalIP","address":"192.0.2.10"}])"));
    EXPECT_EQ(status.at("daemonEndpoints").at("kubeletEndpoint").at("Port"), 10250);
    EXPECT_EQ(node.at("spec").at("providerID"), "k8sgpu://k8s.gpu");
    EXPECT_EQ(node.at("spec").at("taints"),
              Json::parse(R"([{"key":"k8s.gpu/remote","effect":"NoSchedule"}])"));
    for (const auto& [field, value] : status.at("nodeInfo").items()) EXPECT_TRUE(value.is_string()) << field;
}

TEST(NodeObject, A_kubelet_identity_sets_no_label_that_NodeRestriction_refuses) {
    NodeConfig restricted = config();
    restricted.node_identity = true;
    for (const auto& [key, value] : managed_labels(restricted)) {
        const std::string domain = key.substr(0, key.find('/'));
        if (!domain.ends_with("kubernetes.io") || domain == key) continue;
        EXPECT_THAT((std::set<std::string>{"kubernetes.io/hostname", "kubernetes.io/os", "kubernetes.io/arch",
                                           "beta.kubernetes.io/os", "beta.kubernetes.io/arch"}),
                    ::testing::Contains(key));
    }
}

TEST(NodeObject, The_version_never_exceeds_the_servers) {
    EXPECT_EQ(kubelet_version("v1.30.14", "0.1.0"), "v1.30.14+k8sgpu.0.1.0");
    EXPECT_EQ(kubelet_version("v1.33.5-eks-1234", "0.1.0"), "v1.33.5+k8sgpu.0.1.0");
    EXPECT_EQ(kubelet_version("v1.41.0", "0.1.0"), "v1.36.0+k8sgpu.0.1.0");
}

TEST(NodeObject, A_heartbeat_alone_is_no_reason_to_write) {
    const Json status = build_node_status(config(), facts(), answering(), Json::object(), kStart.wall);
    const Json next = build_node_status(config(), facts(), answering(), status, later(Duration(60'000)).wall);
    EXPECT_TRUE(node_status_patch(status, next, /*report=*/false).is_null());
    EXPECT_FALSE(node_status_patch(status, next, /*report=*/true).is_null());
}

TEST(NodeObject, Conditions_of_others_are_never_mentioned_and_ours_come_back) {
    Json status = build_node_status(config(), facts(), answering(), Json::object(), kStart.wall);
    status["conditions"].push_back({{"type", "osmo.nvidia.com/verified"}, {"status", "True"}});
    for (Json& condition : status["conditions"]) {
        if (condition.at("type") == "Ready") condition["status"] = "Unknown";
    }
    const Json wanted = build_node_status(config(), facts(), answering(), status, later(Duration(1000)).wall);
    const Json patch = node_status_patch(status, wanted, false);
    ASSERT_FALSE(patch.is_null());
    for (const Json& condition : patch.at("status").at("conditions")) {
        EXPECT_NE(condition.at("type"), "osmo.nvidia.com/verified");
    }
}

TEST(NodeObject, A_resource_that_is_no_longer_offered_is_removed_by_name) {
    const Json before = build_node_status(config(), facts(), answering(), Json::object(), kStart.wall);
    NodeFacts fewer = facts();
    fewer.capacity.erase("nvidia.com/gpu");
    const Json patch = node_status_patch(
        before, build_node_status(config(), fewer, answering(), before, kStart.wall), false);
    EXPECT_TRUE(patch.at("status").at("capacity").at("nvidia.com/gpu").is_null());
}

TEST(NodeController, Registers_reports_and_comes_back_after_a_deletion) {
    NodeController controller(config(), 1);
    controller.set_facts(facts());
    EXPECT_TRUE(std::holds_alternative<FetchNode>(*controller.next(kStart)));
    controller.on_absent();
    const auto create = controller.next(kStart);
    ASSERT_TRUE(create && std::holds_alternative<CreateNode>(*create));
    Json node = std::get<CreateNode>(*create).node;
    node["metadata"]["uid"] = "n1";
    controller.on_node(std::make_shared<const Json>(node));
    controller.on_succeeded(*create, kStart);
    EXPECT_FALSE(controller.next(kStart)) << "nothing to write after the creating post";
    EXPECT_TRUE(controller.registered());
    const auto report = controller.next(later(Duration(300'000)));
    ASSERT_TRUE(report);
    EXPECT_EQ(std::get<PatchNode>(*report).subresource, "status");
    controller.on_absent();
    EXPECT_TRUE(std::holds_alternative<CreateNode>(*controller.next(later(Duration(300'000)))));
}

TEST(NodeController, A_Node_of_somebody_else_is_left_alone) {
    NodeController controller(config(), 1);
    controller.set_facts(facts());
    Json node = build_node(config(), facts(), answering(), kStart.wall);
    node["spec"]["providerID"] = "aws:///eu-west-1a/i-0abc";
    controller.on_node(std::make_shared<const Json>(node));
    EXPECT_FALSE(controller.next(kStart));
    EXPECT_FALSE(controller.registered());
    EXPECT_THAT(controller.problem(), ::testing::HasSubstr("--node-name"));
}

TEST(LeaseController, Waits_for_the_node_then_creates_and_renews_every_ten_seconds) {
    LeaseController lease("k8s.gpu", 1);
    EXPECT_FALSE(lease.next(kStart, ""));
    auto call = lease.next(kStart, "n1");
    ASSERT_TRUE(std::holds_alternative<FetchLease>(*call));
    lease.on_failed(*call, Error{ErrorKind::NotFound, "no lease", {}, {}}, kStart);
    call = lease.next(kStart, "n1");
    ASSERT_TRUE(std::holds_alternative<CreateLease>(*call));
    const Json made = std::get<CreateLease>(*call).lease;
    EXPECT_EQ(made.at("spec").at("leaseDurationSeconds"), 40);
    EXPECT_EQ(made.at("metadata").at("ownerReferences")[0].at("uid"), "n1");
    lease.on_succeeded(made, *call, kStart);
    EXPECT_FALSE(lease.next(later(Duration(9'900)), "n1"));
    call = lease.next(later(Duration(10'000)), "n2");
    ASSERT_TRUE(std::holds_alternative<RenewLease>(*call));
    EXPECT_EQ(std::get<RenewLease>(*call).lease.at("metadata").at("ownerReferences")[0].at("uid"), "n2")
        << "a Node that came back owns the lease anew";
}

TEST(LeaseController, A_jump_of_wall_time_neither_hastens_nor_delays_a_renewal) {
    LeaseController lease("k8s.gpu", 1);
    lease.on_succeeded(Json::object(), FetchLease{}, kStart);
    lease.on_succeeded(Json::object(), *lease.next(kStart, "n1"), kStart);
    for (const auto jump : {std::chrono::hours(10), std::chrono::hours(-10)}) {
        EXPECT_FALSE(lease.next({kStart.now + Duration(9'900), kStart.wall + jump}, "n1"));
        const auto call = lease.next({kStart.now + Duration(10'000), kStart.wall + jump}, "n1");
        ASSERT_TRUE(call);
        EXPECT_EQ(
            std::get<RenewLease>(*call).lease.at("spec").at("renewTime").get<std::string>().substr(0, 13),
            jump.count() > 0 ? "2026-01-01T10" : "2025-12-31T14")
            << "the time is what the clock says now";
    }
}

TEST(LeaseController, The_last_renewal_needs_a_lease_that_is_known) {
    LeaseController lease("k8s.gpu", 1);
    EXPECT_FALSE(lease.last_renewal(kStart, "n1"));
    lease.on_succeeded(Json::object(), FetchLease{}, kStart);
    EXPECT_TRUE(lease.last_renewal(kStart, "n1"));
    lease.on_failed(RenewLease{}, Error{ErrorKind::Conflict, "modified", {}, {}}, kStart);
    EXPECT_FALSE(lease.last_renewal(kStart, "n1")) << "somebody else may hold it now";
}

TEST(LeaseController, A_conflict_reads_before_it_writes_again) {
    LeaseController lease("k8s.gpu", 1);
    lease.on_succeeded(Json::object(), FetchLease{}, kStart);
    const auto call = lease.next(kStart, "n1");
    lease.on_failed(*call, Error{ErrorKind::Conflict, "modified", {}, {}}, kStart);
    EXPECT_TRUE(std::holds_alternative<FetchLease>(*lease.next(later(Duration(1000)), "n1")));
}

TEST(Capacity, The_operators_word_wins_and_what_nobody_says_is_named) {
    std::vector<std::string> defaulted;
    const Capacity merged = merge_capacity({{"cpu", "0.5"}, {"nvidia.com/gpu", "4"}},
                                           {{"nvidia.com/gpu", "2"}, {"memory", "1024Mi"}}, defaulted);
    EXPECT_EQ(merged.at("cpu"), "500m") << "as the API server stores it";
    EXPECT_EQ(merged.at("nvidia.com/gpu"), "2");
    EXPECT_EQ(merged.at("memory"), "1Gi");
    EXPECT_THAT(defaulted, ElementsAre("ephemeral-storage", "pods"));
}

}  // namespace
}  // namespace k8sgpu::vnode
