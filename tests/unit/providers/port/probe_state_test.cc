#include "providers/port/probe_state.h"

#include <gtest/gtest.h>

namespace k8sgpu::providers {
namespace {

using Kinds = std::vector<ProbeKind>;
constexpr auto kStartup = ProbeKind::Startup, kLiveness = ProbeKind::Liveness,
               kReadiness = ProbeKind::Readiness;

SteadyTime at(int seconds) {
    return SteadyTime(std::chrono::seconds(1000 + seconds));
}
ProbeTiming every(int period, int failures = 1, int successes = 1, int delay = 0) {
    return {std::chrono::seconds(delay), std::chrono::seconds(period), std::chrono::seconds(1), successes,
            failures};
}

TEST(ProbeTiming, Has_the_defaults_of_the_API) {
    const ProbeTiming none = timing_of(Json::object());
    EXPECT_EQ(none.initial_delay, std::chrono::seconds(0));
    EXPECT_EQ(none.period, std::chrono::seconds(10));
    EXPECT_EQ(none.timeout, std::chrono::seconds(1));
    EXPECT_EQ(none.successes, 1);
    EXPECT_EQ(none.failures, 3);
    const ProbeTiming all = timing_of(Json::parse(
        R"({"initialDelaySeconds": 5, "periodSeconds": 7, "timeoutSeconds": 2, "successThreshold": 4, "failureThreshold": 9})"));
    EXPECT_EQ(all.initial_delay, std::chrono::seconds(5));
    EXPECT_EQ(all.period, std::chrono::seconds(7));
    EXPECT_EQ(all.timeout, std::chrono::seconds(2));
    EXPECT_EQ(all.successes, 4);
    EXPECT_EQ(all.failures, 9);
    EXPECT_EQ(timing_of(Json::parse(R"({"periodSeconds": -3, "timeoutSeconds": 99999999999})")).period,
              std::chrono::seconds(1));
}

TEST(ProbeState, Without_probes_a_container_is_started_and_ready) {
    ProbeState state({}, at(0));
    EXPECT_TRUE(state.started() && state.ready());
    EXPECT_TRUE(state.due(at(100)).empty());
    EXPECT_FALSE(state.wake_at());
    EXPECT_FALSE(state.failed());
}

TEST(ProbeState, Others_wait_for_the_startup_probe) {
    ProbeState state({every(1, 2), every(1), every(1)}, at(0));
    EXPECT_FALSE(state.started() || state.ready());
    EXPECT_EQ(state.due(at(0)), Kinds{kStartup});
    EXPECT_TRUE(state.due(at(5)).empty()) << "the first is still under way";
    state.result(kStartup, false, true);
    EXPECT_FALSE(state.failed());
    EXPECT_EQ(state.due(at(6)), Kinds{kStartup});
    state.result(kStartup, true, true);
    EXPECT_TRUE(state.started());
    EXPECT_FALSE(state.ready());
    EXPECT_EQ(state.due(at(6)), (Kinds{kLiveness, kReadiness}));
    state.result(kReadiness, true, true);
    EXPECT_TRUE(state.ready());
    EXPECT_TRUE(state.due(at(6)).empty());
}

TEST(ProbeState, A_startup_probe_that_fails_too_often_condemns_the_run) {
    ProbeState state({every(1, 2), std::nullopt, std::nullopt}, at(0));
    for (int i = 0; i < 2; ++i) {
        EXPECT_FALSE(state.failed());
        ASSERT_EQ(state.due(at(i)), Kinds{kStartup});
        state.result(kStartup, false, true);
    }
    EXPECT_EQ(state.failed(), kStartup);
    EXPECT_TRUE(state.due(at(9)).empty());
    EXPECT_FALSE(state.wake_at());
}

TEST(ProbeState, Only_failures_in_a_row_condemn) {
    ProbeState state({std::nullopt, every(1, 2), std::nullopt}, at(0));
    auto probe = [&, second = 0](bool success) mutable {
        ASSERT_EQ(state.due(at(second)), Kinds{kLiveness});
        state.result(kLiveness, success, true);
        ++second;
    };
    for (const bool success : {false, true, false, true, true, false}) probe(success);
    EXPECT_FALSE(state.failed());
    EXPECT_TRUE(state.ready());
    probe(false);
    EXPECT_EQ(state.failed(), kLiveness);
}

TEST(ProbeState, What_could_not_be_carried_out_counts_for_nothing) {
    ProbeState state({std::nullopt, every(1, 2), std::nullopt}, at(0));
    EXPECT_EQ(state.due(at(0)), Kinds{kLiveness});
    state.result(kLiveness, false, true);
    EXPECT_EQ(state.due(at(1)), Kinds{kLiveness});
    state.result(kLiveness, false, false);
    EXPECT_FALSE(state.failed());
    EXPECT_EQ(state.due(at(2)), Kinds{kLiveness});
    state.result(kLiveness, false, true);
    EXPECT_EQ(state.failed(), kLiveness);
}

TEST(ProbeState, Readiness_comes_and_goes_by_its_thresholds_and_condemns_nothing) {
    ProbeState state({std::nullopt, std::nullopt, every(2, 2, 3, 5)}, at(0));
    EXPECT_EQ(state.wake_at(), at(5));
    EXPECT_TRUE(state.due(at(4)).empty());
    int second = 5;
    const auto probe = [&](bool success) {
        EXPECT_EQ(state.due(at(second)), Kinds{kReadiness}) << second;
        state.result(kReadiness, success, true);
        second += 2;
        EXPECT_EQ(state.wake_at(), at(second));
        return state.ready();
    };
    EXPECT_FALSE(probe(true));
    EXPECT_FALSE(probe(true));
    EXPECT_TRUE(probe(true));
    EXPECT_TRUE(probe(false));
    EXPECT_FALSE(probe(false));
    EXPECT_FALSE(state.failed());
}

TEST(ProbeState, While_it_is_stopped_only_readiness_goes_on) {
    ProbeState state({std::nullopt, every(1), every(1)}, at(0));
    EXPECT_EQ(state.due(at(0)).size(), 2U);
    state.stopping();
    state.result(kLiveness, false, true);
    EXPECT_FALSE(state.failed());
    state.result(kReadiness, true, true);
    EXPECT_TRUE(state.ready());
    EXPECT_EQ(state.due(at(1)), Kinds{kReadiness});
}

}  // namespace
}  // namespace k8sgpu::providers
