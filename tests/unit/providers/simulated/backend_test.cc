#include "providers/simulated/backend.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace k8sgpu::providers::simulated {
namespace {

using namespace std::chrono_literals;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

const PodId kId{"default", "a", "u1"};
const WallTime kStart{std::chrono::seconds(1'767'225'600)};

Json pod_with(std::map<std::string, std::string> annotations, const std::string& policy = "Always") {
    Json pod = {{"spec",
                 {{"restartPolicy", policy},
                  {"containers", Json::array({{{"name", "main"}, {"image", "app:1"}, {"env", "secret"}}})}}}};
    for (const auto& [key, value] : annotations)
        pod["metadata"]["annotations"]["simulated.k8s.gpu/" + key] = value;
    return pod;
}

class SimulatedBackendTest : public ::testing::Test {
  protected:
    void create(const Json& pod) {
        const auto script = read_script(pod);
        ASSERT_TRUE(script) << script.error().message;
        EXPECT_TRUE(backend.create(kId, pod, *script, "sim-1", kStart));
    }
    // Phases that were told up to `after` the start, one per step of `every`.
    std::vector<std::string> phases(Duration after, Duration every) {
        std::vector<std::string> told;
        for (Duration t{0}; t <= after; t += every) {
            for (const ObservedPod& pod : backend.step(kStart + t)) {
                told.push_back(pod.gone ? "gone" : string_at(pod.status, {"phase"}));
            }
        }
        return told;
    }
    const Json& container() const { return at(backend.find("u1")->status, {"containerStatuses"}).front(); }

    SimulatedBackend backend;
};

TEST_F(SimulatedBackendTest, Without_a_script_a_pod_runs_after_a_second_and_stays) {
    create(pod_with({}));
    EXPECT_THAT(phases(1h, 500ms), ElementsAre("Pending", "Running"));
    EXPECT_TRUE(bool_at(container(), {"ready"}));
    EXPECT_EQ(backend.next_change(), std::nullopt);
}

TEST_F(SimulatedBackendTest, A_job_ends_with_the_exit_code_of_its_script) {
    create(pod_with({{"start-after", "2s"}, {"run-for", "1m30s"}, {"exit-code", "3"}}, "Never"));
    EXPECT_THAT(phases(92s, 1s), ElementsAre("Pending", "Running", "Failed"));
    EXPECT_EQ(int_at(container(), {"state", "terminated", "exitCode"}), 3);
    EXPECT_FALSE(backend.find("u1")->may_be_running);
}

TEST_F(SimulatedBackendTest, Readiness_comes_later_than_the_start) {
    create(pod_with({{"start-after", "0"}, {"ready-after", "5s"}}));
    backend.step(kStart + 4s);
    EXPECT_FALSE(bool_at(container(), {"ready"}));
    backend.step(kStart + 5s);
    EXPECT_TRUE(bool_at(container(), {"ready"}));
}

TEST_F(SimulatedBackendTest, A_crash_loop_backs_off_as_the_kubelet_does) {
    create(pod_with({{"start-after", "0"}, {"run-for", "1s"}, {"exit-code", "1"}}, "OnFailure"));
    backend.step(kStart + 5s);
    EXPECT_EQ(string_at(container(), {"state", "waiting", "reason"}), "CrashLoopBackOff");
    EXPECT_EQ(int_at(container(), {"lastState", "terminated", "exitCode"}), 1);
    backend.step(kStart + 11s);
    EXPECT_EQ(int_at(container(), {"restartCount"}), 1);
    backend.step(kStart + 31s);  // 20 s this time
    EXPECT_EQ(int_at(container(), {"restartCount"}), 1);
    backend.step(kStart + 32s);
    EXPECT_EQ(int_at(container(), {"restartCount"}), 2);
}

TEST_F(SimulatedBackendTest, Removal_ends_a_pod_when_it_has_stopped_and_then_its_trace_goes) {
    create(pod_with({{"stop-after", "10s"}}));
    backend.step(kStart + 5s);
    EXPECT_TRUE(backend.remove("u1", 30s, kStart + 5s));
    EXPECT_TRUE(backend.find("u1")->removing);
    EXPECT_TRUE(backend.find("u1")->may_be_running);
    backend.step(kStart + 15s);
    EXPECT_EQ(int_at(container(), {"state", "terminated", "exitCode"}), 143);
    EXPECT_FALSE(backend.find("u1")->may_be_running);
    EXPECT_THAT(phases(16s, 16s), ElementsAre("gone"));
    EXPECT_EQ(backend.find("u1"), nullptr);
}

TEST_F(SimulatedBackendTest, Less_grace_cuts_the_end_short_and_more_does_not_prolong_it) {
    create(pod_with({{"stop-after", "10m"}}));
    backend.step(kStart + 5s);
    backend.remove("u1", 300s, kStart + 5s);
    backend.remove("u1", 2s, kStart + 6s);
    backend.remove("u1", 600s, kStart + 7s);
    backend.step(kStart + 8s);
    EXPECT_EQ(int_at(container(), {"state", "terminated", "exitCode"}), 137);
}

TEST_F(SimulatedBackendTest, A_second_creation_of_the_same_uid_changes_nothing) {
    create(pod_with({{"run-for", "5s"}}, "Never"));
    backend.step(kStart + 10s);
    EXPECT_FALSE(backend.create(kId, pod_with({}), Script{}, "sim-2", kStart + 11s));
    EXPECT_EQ(backend.find("u1")->backend_id, "sim-1");
    EXPECT_FALSE(backend.find("u1")->may_be_running);
}

TEST_F(SimulatedBackendTest, A_vanished_trace_is_told_once_with_its_last_status) {
    create(pod_with({}));
    backend.step(kStart + 5s);
    EXPECT_TRUE(backend.vanish("u1"));
    const auto told = backend.step(kStart + 5s);
    ASSERT_EQ(told.size(), 1U);
    EXPECT_TRUE(told[0].gone);
    EXPECT_EQ(string_at(told[0].status, {"phase"}), "Running");
    EXPECT_THAT(backend.step(kStart + 6s), IsEmpty());
}

TEST_F(SimulatedBackendTest, Restored_facts_lead_to_the_state_that_it_would_have_had) {
    create(pod_with({{"run-for", "5s"}, {"exit-code", "1"}}));
    backend.step(kStart + 20s);
    backend.remove("u1", 30s, kStart + 20s);
    backend.step(kStart + 20s);
    SimulatedBackend later;
    const auto facts = backend.facts();
    ASSERT_EQ(facts.size(), 1U);
    EXPECT_FALSE(dump_json(facts[0].pod).find("secret") != std::string::npos);
    ASSERT_TRUE(later.restore(facts[0], *read_script(facts[0].pod)));
    later.step(kStart + 20s);
    ASSERT_NE(later.find("u1"), nullptr);
    EXPECT_EQ(later.find("u1")->status, backend.find("u1")->status);
}

TEST(SimulatedScript, Durations_are_Gos) {
    EXPECT_EQ(*parse_duration("0"), 0ms);
    EXPECT_EQ(*parse_duration("1h2m3s"), 3723s);
    EXPECT_EQ(*parse_duration("2.5s"), 2500ms);
    for (const char* bad : {"", "5", "5x", "s", "-5s", "1..2s", "99999999h", "5s "}) {
        EXPECT_FALSE(parse_duration(bad)) << bad;
    }
}

TEST(SimulatedScript, A_wrong_annotation_is_named_with_its_value) {
    const auto script = read_script(pod_with({{"run-for", "soon"}}));
    ASSERT_FALSE(script);
    EXPECT_THAT(script.error().message, HasSubstr("simulated.k8s.gpu/run-for"));
    EXPECT_THAT(script.error().message, HasSubstr("\"soon\""));
    EXPECT_FALSE(read_script(pod_with({{"exit-code", "256"}})));
}

}  // namespace
}  // namespace k8sgpu::providers::simulated
