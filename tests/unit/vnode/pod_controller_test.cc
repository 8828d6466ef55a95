#include "vnode/pod_controller.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/vnode/small_cluster.h"

namespace k8sgpu::vnode {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using testing::ended_status;
using ::testing::IsEmpty;
using testing::make_pod;
using ::testing::Pair;
using testing::running_status;
using testing::SmallCluster;

SmallCluster synced() {
    SmallCluster cluster;
    cluster.sync();
    cluster.settle();
    return cluster;
}

TEST(PodController, A_pod_runs_ends_and_leaves_its_copy_until_it_is_deleted) {
    SmallCluster cluster = synced();
    cluster.create_pod(make_pod("a", "u1"));
    cluster.settle();
    EXPECT_EQ(cluster.forwarded("u1"), "True");
    cluster.report("u1", running_status());
    cluster.settle();
    EXPECT_EQ(cluster.phase("u1"), "Running");
    EXPECT_EQ(string_at(cluster.api["u1"], {"status", "podIP"}), "10.9.0.7");
    EXPECT_EQ(string_at(cluster.api["u1"], {"status", "hostIP"}), "192.0.2.10");
    EXPECT_TRUE(kube::condition_is_true(cluster.api["u1"], "Ready"));
    cluster.report("u1", ended_status(0));
    cluster.settle();
    EXPECT_EQ(cluster.phase("u1"), "Succeeded");
    EXPECT_FALSE(kube::condition_is_true(cluster.api["u1"], "Ready"));
    EXPECT_THAT(cluster.removals, IsEmpty());
    cluster.delete_pod("u1");
    cluster.settle();
    EXPECT_FALSE(cluster.api.contains("u1"));
    EXPECT_FALSE(cluster.backend.contains("u1"));
    EXPECT_EQ(cluster.creations["u1"], 1);
    EXPECT_THAT(cluster.failures, IsEmpty());
}

TEST(PodController, The_intent_is_durable_before_anything_is_created) {
    SmallCluster cluster = synced();
    cluster.create_pod(make_pod("a", "u1"));
    ASSERT_EQ(cluster.queue.size(), 1U);
    EXPECT_TRUE(std::holds_alternative<WriteStatus>(cluster.queue.front()));
    cluster.step_once();
    EXPECT_EQ(cluster.forwarded("u1"), "Unknown");
    ASSERT_FALSE(cluster.queue.empty());
    EXPECT_TRUE(std::holds_alternative<DoEnsure>(cluster.queue.front()));
}

TEST(PodController, A_debug_container_from_before_the_creation_is_added_right_after_it) {
    SmallCluster cluster = synced();
    Json pod = make_pod("a", "u1");
    pod["spec"]["ephemeralContainers"] = Json::array({{{"name", "debug"}, {"image", "busybox"}}});
    cluster.create_pod(pod);
    cluster.settle();
    EXPECT_EQ(cluster.creations["u1"], 1);
    cluster.report("u1", running_status());
    cluster.settle();
    EXPECT_EQ(cluster.updates["u1"], 1);
    cluster.create_pod(make_pod("b", "u2"));
    cluster.settle();
    cluster.report("u2", running_status());
    cluster.settle();
    EXPECT_EQ(cluster.updates["u2"], 0);
}

TEST(PodController, A_create_that_waits_for_its_turn_is_dropped_once_its_pod_has_other_needs) {
    SmallCluster cluster = synced();
    for (const char* uid : {"u1", "u2", "u3"}) {
        cluster.create_pod(make_pod(uid, uid));
        cluster.step_once();
        const auto waiting = std::get<DoEnsure>(cluster.queue.front());
        cluster.queue.pop_front();
        EXPECT_TRUE(cluster.controller->still_wanted(waiting, cluster.times.now));
        cluster.backend[uid].id = waiting.id;
        if (waiting.id.uid == "u1") cluster.report("u1", running_status());  // of an earlier attempt
        if (waiting.id.uid == "u2") cluster.delete_pod("u2");
        if (waiting.id.uid == "u3") cluster.force_delete_pod("u3");
        EXPECT_FALSE(cluster.controller->still_wanted(waiting, cluster.times.now)) << uid;
        cluster.queue.clear();
    }
}

TEST(PodController, What_an_old_version_did_not_know_yet_is_not_taken_back) {
    SmallCluster cluster = synced();
    const Json old = make_pod("a", "u1");
    cluster.create_pod(old);
    cluster.settle();
    cluster.report("u1", running_status());
    cluster.settle();
    ASSERT_EQ(cluster.forwarded("u1"), "True");
    const Json now = cluster.api["u1"];

    // The next life lists from a cache that is behind, and its provider does not answer.
    cluster.backend.clear();
    cluster.restart_agent();
    cluster.refuse = providers::Refused{"NewRule", "a rule that did not exist then"};
    cluster.feed(LocalListed{{std::make_shared<const Json>(old)}});
    cluster.queue.clear();
    cluster.feed(LocalApplied{std::make_shared<const Json>(now)});
    cluster.settle();
    EXPECT_EQ(cluster.forwarded("u1"), "True");
    EXPECT_EQ(cluster.phase("u1"), "Running");
    cluster.sweep();
    cluster.settle();
    EXPECT_EQ(cluster.creations["u1"], 1);
}

TEST(PodController, Nothing_is_created_while_the_intent_cannot_be_written) {
    SmallCluster cluster = synced();
    cluster.status_errors = {Error{ErrorKind::Unavailable, "connection refused", {}, {}}};
    cluster.create_pod(make_pod("a", "u1"));
    cluster.settle();
    EXPECT_EQ(cluster.creations["u1"], 0);
    cluster.advance(Duration(1000));
    cluster.settle();
    EXPECT_EQ(cluster.creations["u1"], 1);
}

TEST(PodController, Nothing_happens_before_both_sides_are_known) {
    SmallCluster cluster;
    cluster.create_pod(make_pod("a", "u1"));
    cluster.settle();
    EXPECT_EQ(cluster.creations["u1"], 0);
    cluster.sync();
    cluster.settle();
    EXPECT_EQ(cluster.creations["u1"], 1);
}

TEST(PodController, A_restart_adopts_the_copy_and_creates_no_second_one) {
    SmallCluster cluster = synced();
    cluster.create_pod(make_pod("a", "u1"));
    cluster.settle();
    cluster.report("u1", running_status());
    cluster.settle();
    const int writes = cluster.status_writes;
    cluster.restart_agent();
    cluster.sync();
    cluster.settle();
    EXPECT_EQ(cluster.creations["u1"], 1);
    EXPECT_EQ(cluster.phase("u1"), "Running");
    EXPECT_EQ(cluster.status_writes, writes) << "an unchanged status is not written again";
}

TEST(PodController, A_crash_between_intent_and_creation_creates_once) {
    SmallCluster cluster = synced();
    cluster.create_pod(make_pod("a", "u1"));
    cluster.step_once();  // the intent is written, the create is lost with the process
    cluster.restart_agent();
    cluster.sync();
    cluster.settle();
    EXPECT_EQ(cluster.creations["u1"], 1);
}

TEST(PodController, An_intent_that_was_only_read_is_written_again_before_anything_is_created) {
    SmallCluster cluster = synced();
    cluster.create_pod(make_pod("a", "u1"));
    cluster.step_once();  // the intent is written, the create is lost with the process
    cluster.restart_agent();
    cluster.sync();
    ASSERT_FALSE(cluster.queue.empty());
    EXPECT_TRUE(std::holds_alternative<WriteStatus>(cluster.queue.front()));
    cluster.settle();
    EXPECT_EQ(cluster.creations["u1"], 1);
}

TEST(PodController, A_pod_that_only_an_old_list_knows_is_not_run_again) {
    SmallCluster cluster = synced();
    cluster.create_pod(make_pod("a", "u1"));
    cluster.step_once();
    const auto old = std::make_shared<const Json>(cluster.api["u1"]);
    cluster.settle();
    cluster.report("u1", ended_status(0));
    cluster.settle();
    cluster.delete_pod("u1");
    cluster.settle();
    ASSERT_TRUE(cluster.api.empty());
    cluster.restart_agent();
    cluster.feed(LocalListed{{old}});  // it says: intent written, nothing created yet
    cluster.sweep();
    cluster.settle();
    EXPECT_EQ(cluster.creations["u1"], 1);
}

TEST(PodController, A_status_never_overwrites_a_newer_object) {
    SmallCluster cluster = synced();
    cluster.create_pod(make_pod("a", "u1"));
    ASSERT_EQ(cluster.queue.size(), 1U);
    cluster.touch("u1");  // somebody else was faster
    cluster.settle();
    EXPECT_EQ(cluster.forwarded("u1"), "");
    cluster.feed(LocalApplied{std::make_shared<const Json>(cluster.api["u1"])});
    cluster.advance(Duration(1000));
    cluster.settle();
    EXPECT_EQ(cluster.creations["u1"], 1);
}

TEST(PodController, A_copy_stays_while_a_second_create_may_still_be_executed) {
    SmallCluster cluster = synced();
    cluster.ensure_answers.push_back(fail(ErrorKind::Timeout, "deadline passed"));
    cluster.create_pod(make_pod("a", "u1"));
    cluster.settle();
    cluster.advance(Duration(1000));
    cluster.settle();
    ASSERT_EQ(cluster.creations["u1"], 1);
    cluster.delete_pod("u1");
    cluster.advance(Duration(50'000));
    cluster.settle();
    EXPECT_THAT(cluster.removals, IsEmpty());
    cluster.advance(Duration(10'000));
    cluster.settle();
    EXPECT_FALSE(cluster.backend.contains("u1"));
    EXPECT_FALSE(cluster.api.contains("u1"));
}

TEST(PodController, A_copy_removed_by_somebody_else_fails_the_pod_and_is_not_run_again) {
    SmallCluster cluster = synced();
    cluster.create_pod(make_pod("a", "u1"));
    cluster.settle();
    cluster.report("u1", running_status());
    cluster.settle();
    cluster.backend_pod_vanishes("u1");
    cluster.settle();
    EXPECT_EQ(cluster.phase("u1"), "Failed");
    EXPECT_EQ(string_at(cluster.api["u1"], {"status", "reason"}), "RemotePodLost");
    EXPECT_TRUE(kube::condition_is_true(cluster.api["u1"], "DisruptionTarget"));
    EXPECT_EQ(cluster.creations["u1"], 1);
    EXPECT_THAT(cluster.events, Contains("RemotePodLost"));
}

TEST(PodController, A_copy_interrupted_by_somebody_else_is_lost_even_if_it_ends_well) {
    SmallCluster cluster = synced();
    cluster.create_pod(make_pod("a", "u1"));
    cluster.settle();
    cluster.report("u1", running_status());
    cluster.settle();
    cluster.backend["u1"].removing = true;
    cluster.report("u1", running_status());
    cluster.settle();
    EXPECT_EQ(cluster.phase("u1"), "Running") << "not terminal while a container may run";
    cluster.report("u1", ended_status(0));
    cluster.settle();
    cluster.backend_pod_vanishes("u1");
    cluster.settle();
    EXPECT_EQ(cluster.phase("u1"), "Failed");
    EXPECT_EQ(string_at(cluster.api["u1"], {"status", "reason"}), "RemotePodLost");
    EXPECT_TRUE(kube::condition_is_true(cluster.api["u1"], "DisruptionTarget"));
    EXPECT_EQ(cluster.creations["u1"], 1);
}

TEST(PodController, A_copy_that_had_ended_before_somebody_else_removed_it_keeps_its_result) {
    SmallCluster cluster = synced();
    cluster.create_pod(make_pod("a", "u1"));
    cluster.settle();
    cluster.report("u1", ended_status(0));
    cluster.backend["u1"].removing = true;
    cluster.report("u1", ended_status(0));
    cluster.backend_pod_vanishes("u1");
    cluster.settle();
    EXPECT_EQ(cluster.phase("u1"), "Succeeded");
    EXPECT_EQ(string_at(cluster.api["u1"], {"status", "reason"}), "");
}

TEST(PodController, A_copy_lost_while_the_agent_was_down_fails_the_pod_too) {
    SmallCluster cluster = synced();
    cluster.create_pod(make_pod("a", "u1"));
    cluster.settle();
    cluster.report("u1", running_status());
    cluster.settle();
    cluster.restart_agent();
    cluster.backend.erase("u1");
    cluster.sync();
    cluster.settle();
    EXPECT_EQ(cluster.phase("u1"), "Failed");
    EXPECT_EQ(cluster.creations["u1"], 1);
}

TEST(PodController, An_incomplete_view_of_the_backend_never_fails_a_pod) {
    SmallCluster cluster = synced();
    cluster.create_pod(make_pod("a", "u1"));
    cluster.settle();
    cluster.report("u1", running_status());
    cluster.settle();
    cluster.restart_agent();
    // The local list is there, the backend does not answer.
    cluster.feed(LocalListed{{std::make_shared<const Json>(cluster.api["u1"])}});
    cluster.settle();
    cluster.advance(std::chrono::hours(2));
    cluster.settle();
    EXPECT_EQ(cluster.phase("u1"), "Running");
    EXPECT_EQ(cluster.creations["u1"], 1);
}

TEST(PodController, Deletion_waits_until_the_copy_has_ended_and_passes_the_grace_on) {
    SmallCluster cluster = synced();
    cluster.backend_ends_at_once = false;
    cluster.create_pod(make_pod("a", "u1"));
    cluster.settle();
    cluster.report("u1", running_status());
    cluster.settle();
    cluster.delete_pod("u1", 45);
    cluster.settle();
    EXPECT_TRUE(cluster.api.contains("u1"));
    EXPECT_THAT(cluster.removals, ElementsAre(Pair("u1", 45)));
    EXPECT_EQ(cluster.phase("u1"), "Running") << "not terminal while a container may run";
    cluster.report("u1", ended_status(143));
    cluster.settle();
    EXPECT_FALSE(cluster.api.contains("u1"));
    EXPECT_THAT(cluster.failures, IsEmpty());
}

TEST(PodController, A_shorter_grace_takes_effect_while_the_first_one_runs) {
    SmallCluster cluster = synced();
    cluster.backend_ends_at_once = false;
    cluster.create_pod(make_pod("a", "u1"));
    cluster.settle();
    cluster.report("u1", running_status());
    cluster.delete_pod("u1", 600);
    cluster.settle();
    cluster.delete_pod("u1", 5);
    cluster.settle();
    EXPECT_THAT(cluster.removals, ElementsAre(Pair("u1", 600), Pair("u1", 5)));
}

TEST(PodController, A_forced_deletion_ends_the_copy_after_the_api_has_confirmed_it) {
    SmallCluster cluster = synced();
    cluster.create_pod(make_pod("a", "u1"));
    cluster.settle();
    cluster.report("u1", running_status());
    cluster.settle();
    cluster.force_delete_pod("u1");
    ASSERT_FALSE(cluster.queue.empty());
    EXPECT_TRUE(std::holds_alternative<DoConfirmAbsent>(cluster.queue.front()));
    cluster.settle();
    EXPECT_FALSE(cluster.backend.contains("u1"));
    EXPECT_EQ(cluster.controller->counts().orphans, 0U);
}

TEST(PodController, A_successor_of_the_same_name_does_not_end_with_its_predecessor) {
    SmallCluster cluster = synced();
    cluster.create_pod(make_pod("web-0", "u1"));
    cluster.settle();
    cluster.report("u1", running_status());
    cluster.settle();
    cluster.force_delete_pod("u1");
    cluster.create_pod(make_pod("web-0", "u2"));
    cluster.settle();
    EXPECT_FALSE(cluster.backend.contains("u1"));
    EXPECT_TRUE(cluster.backend.contains("u2"));
    EXPECT_EQ(cluster.creations["u2"], 1);
}

TEST(PodController, A_stranger_is_removed_only_after_two_complete_lists) {
    SmallCluster cluster;
    const PodId id{"default", "old", "u9"};
    cluster.backend["u9"] = {id, running_status(), true, false, false, "b-u9"};
    cluster.sync();
    cluster.settle();
    EXPECT_TRUE(cluster.backend.contains("u9"));
    cluster.sweep();
    cluster.settle();
    EXPECT_FALSE(cluster.backend.contains("u9"));
}

TEST(PodController, A_pod_that_the_list_missed_is_not_taken_for_an_orphan) {
    SmallCluster cluster;
    cluster.api["u1"] = make_pod("a", "u1");
    cluster.backend["u1"] = {{"default", "a", "u1"}, running_status(), true, false, false, "b-u1"};
    cluster.feed(LocalListed{});  // a stale cache answered
    cluster.sweep();
    cluster.sweep();
    cluster.sweep();
    cluster.settle();
    EXPECT_THAT(cluster.removals, IsEmpty());
}

TEST(PodController, A_refused_pod_fails_with_the_reason_and_nothing_runs) {
    SmallCluster cluster = synced();
    cluster.refuse = providers::Refused{"UnexpectedAdmissionError", "spec.volumes[0].hostPath: not offered"};
    cluster.create_pod(make_pod("a", "u1"));
    cluster.settle();
    EXPECT_EQ(cluster.phase("u1"), "Failed");
    EXPECT_EQ(string_at(cluster.api["u1"], {"status", "message"}),
              "Pod was rejected: spec.volumes[0].hostPath: not offered");
    EXPECT_EQ(cluster.creations["u1"], 0);
    EXPECT_THAT(cluster.events, ElementsAre("UnexpectedAdmissionError"));
    cluster.delete_pod("u1");
    cluster.settle();
    EXPECT_FALSE(cluster.api.contains("u1"));
    EXPECT_THAT(cluster.removals, IsEmpty());
}

TEST(PodController, A_missing_config_map_shows_the_kubelets_reason_and_is_tried_again) {
    SmallCluster cluster = synced();
    cluster.ensure_answers.push_back(
        providers::EnsureOutcome(providers::Blocked{"CreateContainerConfigError",
                                                    "configmap \"x\" not found",
                                                    {},
                                                    "Failed",
                                                    "Error: configmap \"x\" not found"}));
    cluster.create_pod(make_pod("a", "u1"));
    cluster.settle();
    EXPECT_EQ(cluster.phase("u1"), "Pending");
    const Json& waiting = cluster.api["u1"]["status"]["containerStatuses"][0]["state"]["waiting"];
    EXPECT_EQ(waiting["reason"], "CreateContainerConfigError");
    EXPECT_EQ(waiting["message"], "configmap \"x\" not found");
    cluster.advance(Duration(5000));
    cluster.settle();
    EXPECT_EQ(cluster.creations["u1"], 1);
    cluster.report("u1", running_status());
    cluster.settle();
    EXPECT_EQ(cluster.phase("u1"), "Running");
}

TEST(PodController, Delete_during_backoff_stops_retrying) {
    SmallCluster cluster = synced();
    cluster.ensure_answers.push_back(fail(ErrorKind::Unavailable, "connection refused"));
    cluster.create_pod(make_pod("a", "u1"));
    cluster.settle();
    cluster.delete_pod("u1");
    cluster.advance(Duration(120'000));
    cluster.settle();
    EXPECT_EQ(cluster.creations["u1"], 0);
    EXPECT_FALSE(cluster.api.contains("u1"));
}

TEST(PodController, A_pod_deleted_before_it_was_forwarded_goes_without_a_call_to_the_backend) {
    SmallCluster cluster;
    cluster.create_pod(make_pod("a", "u1"));
    cluster.queue.clear();
    cluster.restart_agent();
    cluster.api["u1"] = make_pod("a", "u1");
    cluster.api["u1"]["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:10Z";
    cluster.sync();
    cluster.settle();
    EXPECT_FALSE(cluster.api.contains("u1"));
    EXPECT_THAT(cluster.removals, IsEmpty());
}

TEST(PodController, DaemonSet_pods_are_told_once_and_not_forwarded_without_a_class) {
    SmallCluster cluster = synced();
    cluster.feed(ClassesListed{{"seeweb-nvidia-1xa6000"}});
    Json pod = make_pod("ds-1", "u1");
    pod["metadata"]["ownerReferences"] = Json::array({{{"kind", "DaemonSet"}, {"controller", true}}});
    cluster.create_pod(pod);
    cluster.settle();
    cluster.restart_agent();
    cluster.sync();
    cluster.feed(ClassesListed{{"seeweb-nvidia-1xa6000"}});
    cluster.settle();
    EXPECT_EQ(cluster.creations["u1"], 0);
    EXPECT_EQ(cluster.phase("u1"), "Pending");
    EXPECT_THAT(cluster.events, ElementsAre("DaemonSetNotForwarded"));

    Json paid = make_pod("ds-2", "u2");
    paid["metadata"]["ownerReferences"] = Json::array({{{"kind", "DaemonSet"}, {"controller", true}}});
    paid["spec"]["runtimeClassName"] = "seeweb-nvidia-1xa6000";
    cluster.create_pod(paid);
    cluster.settle();
    EXPECT_EQ(cluster.creations["u2"], 1);
}

TEST(PodController, Conditions_of_others_survive_and_readiness_gates_count) {
    SmallCluster cluster = synced();
    Json pod = make_pod("a", "u1");
    pod["spec"]["readinessGates"] = Json::array({{{"conditionType", "example.com/lb"}}});
    cluster.create_pod(pod);
    cluster.settle();
    cluster.report("u1", running_status());
    cluster.settle();
    EXPECT_FALSE(kube::condition_is_true(cluster.api["u1"], "Ready"));
    cluster.api["u1"]["status"]["conditions"].push_back({{"type", "example.com/lb"}, {"status", "True"}});
    cluster.api["u1"]["metadata"]["resourceVersion"] = "900";
    cluster.feed(LocalApplied{std::make_shared<const Json>(cluster.api["u1"])});
    cluster.settle();
    EXPECT_TRUE(kube::condition_is_true(cluster.api["u1"], "Ready"));
    EXPECT_TRUE(kube::condition_is_true(cluster.api["u1"], "example.com/lb"));
}

TEST(PodController, Restart_counts_never_go_back) {
    SmallCluster cluster = synced();
    cluster.create_pod(make_pod("a", "u1"));
    cluster.settle();
    Json status = running_status();
    status["containerStatuses"][0]["restartCount"] = 4;
    cluster.report("u1", status);
    cluster.settle();
    cluster.report("u1", running_status());
    cluster.settle();
    EXPECT_EQ(cluster.api["u1"]["status"]["containerStatuses"][0]["restartCount"], 4);
}

TEST(PodController, A_field_that_the_server_does_not_keep_is_not_written_for_ever) {
    SmallCluster cluster = synced();
    cluster.create_pod(make_pod("a", "u1"));
    cluster.settle();
    for (int i = 0; i < 3; ++i) {
        // An older server: it drops observedGeneration from every write.
        cluster.api["u1"]["status"].erase("observedGeneration");
        for (auto& condition : cluster.api["u1"]["status"]["conditions"])
            condition.erase("observedGeneration");
        cluster.feed(StatusDone{{"default", "a", "u1"}, false, cluster.api["u1"]});
        if (!cluster.queue.empty()) cluster.queue.clear();
    }
    const int before = cluster.status_writes;
    cluster.feed(LocalApplied{std::make_shared<const Json>(cluster.api["u1"])});
    cluster.settle();
    EXPECT_LE(cluster.status_writes, before + 1);
}

}  // namespace
}  // namespace k8sgpu::vnode
