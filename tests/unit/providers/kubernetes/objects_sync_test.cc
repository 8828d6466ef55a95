#include "providers/kubernetes/objects_sync.h"

#include <gtest/gtest.h>

#include <thread>

#include "tests/unit/providers/kubernetes/fake_remote.h"
#include "tests/unit/providers/kubernetes/support.h"

namespace k8sgpu::providers::kubernetes {
namespace {

Json source(const Json& fields) {
    Json object = {{"metadata", {{"name", "app"}, {"namespace", "default"}, {"labels", {{"team", "t"}}}}}};
    object.update(fields);
    return object;
}

class Copies : public ::testing::Test {
  protected:
    CallContext ctx() { return CallContext::with_timeout(clock_, Duration(10'000), {}); }
    Result<void> ensure(LocalKind kind, const Json& object, const std::string& pod = "pod-1") {
        return copies_.ensure(kind, object, pod, ctx());
    }
    std::size_t collect(const std::set<ObjectKey>& used = {}) {
        return copies_.collect([&](const ObjectKey& key) { return used.contains(key); }, ctx()).value_or(999);
    }

    SystemClock clock_;
    FakeRemote remote_;
    kube::ApiClient client_{remote_};
    ObjectCopies copies_{client_, "gpu", kOwner};
    const std::string map_name_ = copy_name(kOwner, LocalKind::ConfigMap, "default", "app");
    const std::string secret_name_ = copy_name(kOwner, LocalKind::Secret, "default", "app");
};

TEST_F(Copies, A_copy_has_content_type_and_mark_of_its_source_and_nothing_else) {
    ASSERT_TRUE(
        ensure(LocalKind::Secret,
               source({{"type", "kubernetes.io/tls"}, {"data", {{"k", "dg=="}}}, {"immutable", true}})));
    const Json copy = remote_.find("secrets", secret_name_);
    EXPECT_EQ(copy["type"], "kubernetes.io/tls");
    EXPECT_EQ(copy["data"], Json({{"k", "dg=="}}));
    EXPECT_EQ(copy["immutable"], true);
    EXPECT_TRUE(is_our_copy(copy, LocalKind::Secret, kOwner));
    EXPECT_FALSE(copy["metadata"]["labels"].contains("team"));
}

TEST_F(Copies, Ensuring_again_writes_nothing) {
    ASSERT_TRUE(ensure(LocalKind::ConfigMap, source({{"data", {{"k", "v"}}}})));
    const std::string version = remote_.find("configmaps", map_name_)["metadata"]["resourceVersion"];
    ASSERT_TRUE(ensure(LocalKind::ConfigMap, source({{"data", {{"k", "v"}}}}), "pod-2"));
    ObjectCopies after_restart(client_, "gpu", kOwner);
    ASSERT_TRUE(after_restart.ensure(LocalKind::ConfigMap, source({{"data", {{"k", "v"}}}}), "pod-3", ctx()));
    EXPECT_EQ(remote_.find("configmaps", map_name_)["metadata"]["resourceVersion"], version);
}

TEST_F(Copies, A_changed_source_changes_the_copy) {
    ASSERT_TRUE(ensure(LocalKind::ConfigMap, source({{"data", {{"k", "v"}}}})));
    ASSERT_TRUE(ensure(LocalKind::ConfigMap, source({{"data", {{"k", "w"}}}})));
    EXPECT_EQ(remote_.find("configmaps", map_name_)["data"]["k"], "w");
}

TEST_F(Copies, An_immutable_copy_is_replaced_when_its_source_was) {
    ASSERT_TRUE(ensure(LocalKind::ConfigMap, source({{"data", {{"k", "v"}}}, {"immutable", true}})));
    const Json before = remote_.find("configmaps", map_name_);
    ASSERT_TRUE(ensure(LocalKind::ConfigMap, source({{"data", {{"k", "w"}}}, {"immutable", true}})));
    const Json after = remote_.find("configmaps", map_name_);
    EXPECT_EQ(after["data"]["k"], "w");
    EXPECT_NE(after["metadata"]["uid"], before["metadata"]["uid"]);
}

TEST_F(Copies, A_copy_deleted_by_somebody_is_made_anew) {
    ASSERT_TRUE(ensure(LocalKind::ConfigMap, source({{"data", {{"k", "v"}}}})));
    remote_.erase("configmaps", map_name_);
    ASSERT_TRUE(ensure(LocalKind::ConfigMap, source({{"data", {{"k", "v"}}}})));
    EXPECT_FALSE(remote_.find("configmaps", map_name_).is_null());
}

TEST_F(Copies, A_foreign_object_of_that_name_is_left_alone) {
    remote_.put("configmaps", {{"metadata", {{"name", map_name_}}}, {"data", {{"theirs", "1"}}}});
    const auto ensured = ensure(LocalKind::ConfigMap, source({{"data", {{"k", "v"}}}}));
    ASSERT_FALSE(ensured);
    EXPECT_EQ(ensured.error().kind, ErrorKind::Forbidden);
    EXPECT_EQ(remote_.find("configmaps", map_name_)["data"], Json({{"theirs", "1"}}));
}

TEST_F(Copies, Collecting_takes_only_what_is_ours_and_unused) {
    ASSERT_TRUE(ensure(LocalKind::ConfigMap, source({{"data", {{"k", "v"}}}})));
    ASSERT_TRUE(ensure(LocalKind::Secret, source({{"data", {{"k", "dg=="}}}})));
    remote_.put("configmaps", {{"metadata", {{"name", "theirs"}}}});
    // With our labels, but under a name that is not the one of a copy.
    Json moved = remote_.find("configmaps", map_name_);
    moved["metadata"]["name"] = "moved";
    moved["metadata"]["uid"] = "other";
    remote_.put("configmaps", moved);

    EXPECT_EQ(collect(), 0U) << "held for pod-1";
    copies_.release("pod-1");
    EXPECT_EQ(collect({{LocalKind::ConfigMap, map_name_}}), 1U);
    EXPECT_TRUE(remote_.find("secrets", secret_name_).is_null());
    EXPECT_FALSE(remote_.find("configmaps", map_name_).is_null());
    EXPECT_EQ(collect(), 1U);
    EXPECT_EQ(remote_.all("configmaps").size(), 2U) << "theirs and moved";
}

TEST_F(Copies, Pods_and_collections_at_once_never_leave_a_held_copy_missing) {
    std::atomic<bool> done{false};
    std::thread collector([&] {
        while (!done) collect();
    });
    for (int round = 0; round < 200; ++round) {
        const std::string pod = "pod-" + std::to_string(round);
        ASSERT_TRUE(ensure(LocalKind::ConfigMap, source({{"data", {{"k", "v"}}}}), pod));
        ASSERT_FALSE(remote_.find("configmaps", map_name_).is_null()) << round;
        copies_.release(pod);
    }
    done = true;
    collector.join();
}

}  // namespace
}  // namespace k8sgpu::providers::kubernetes
