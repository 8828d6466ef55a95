#include <gtest/gtest.h>

#include "kubelet_api/rate_meter.h"
#include "kubelet_api/usage_ledger.h"

namespace k8sgpu::kubelet_api {
namespace {

using namespace std::chrono_literals;

const WallTime kStart{1'700'000'000s};

TEST(UsageLedger, Adds_up_the_containers_of_a_pod) {
    UsageLedger ledger;
    EXPECT_EQ(ledger.pod_total("u"), std::nullopt);
    ledger.take("u", "a", kStart, 100);
    ledger.take("u", "b", kStart, 10);
    ledger.take("u", "a", kStart, 150);
    ledger.take("v", "a", kStart, 1);
    EXPECT_EQ(ledger.pod_total("u"), 160U);
    EXPECT_EQ(ledger.total(), 161U);
}

TEST(UsageLedger, Never_goes_back_when_a_container_restarts_or_ends) {
    UsageLedger ledger;
    ledger.take("u", "a", kStart, 100);
    ledger.take("u", "a", kStart + 60s, 7);
    EXPECT_EQ(ledger.pod_total("u"), 107U);
    ledger.take("u", "nameless", std::nullopt, 50);
    ledger.take("u", "nameless", std::nullopt, 5);
    EXPECT_EQ(ledger.pod_total("u"), 162U);
}

TEST(UsageLedger, An_overtaken_reading_of_the_same_run_changes_nothing) {
    UsageLedger ledger;
    ledger.take("u", "a", kStart, 100);
    ledger.take("u", "a", kStart, 90);
    EXPECT_EQ(ledger.pod_total("u"), 100U);
}

TEST(UsageLedger, What_gone_pods_used_stays_in_the_total) {
    UsageLedger ledger;
    ledger.take("u", "a", kStart, 100);
    ledger.take("v", "a", kStart, 1);
    ledger.keep_only({"v"});
    EXPECT_EQ(ledger.pod_total("u"), std::nullopt);
    EXPECT_EQ(ledger.total(), 101U);
}

TEST(RateMeter, Needs_two_readings_and_keeps_the_rate_of_a_whole_window) {
    RateMeter meter;
    EXPECT_EQ(meter.take("k", kStart, 0), std::nullopt);
    EXPECT_EQ(meter.take("k", kStart + 500ms, 500'000'000), std::nullopt) << "too short to say anything";
    EXPECT_EQ(meter.take("k", kStart + 2s, 1'000'000'000), 500'000'000U) << "better than nothing";
    EXPECT_EQ(meter.take("k", kStart + 10s, 1'000'000'000), 100'000'000U);
    EXPECT_EQ(meter.take("k", kStart + 12s, 9'000'000'000), 100'000'000U) << "within the next window";
    EXPECT_EQ(meter.take("k", kStart + 20s, 11'000'000'000), 1'000'000'000U);
}

TEST(RateMeter, Begins_anew_after_a_restart_a_pause_or_a_set_clock) {
    RateMeter meter;
    (void)meter.take("k", kStart, 1000);
    EXPECT_EQ(meter.take("k", kStart + 15s, 10), std::nullopt);
    EXPECT_EQ(meter.take("k", kStart + 400s, 20), std::nullopt);
    EXPECT_EQ(meter.take("k", kStart + 200s, 30), std::nullopt);
    EXPECT_EQ(meter.take("k", kStart + 210s, 40), 1U);
    EXPECT_EQ(meter.take("k", kStart + 209s, 39), 1U) << "overtaken by another request's reading";
    meter.forget_before(kStart + 2000s);
    EXPECT_EQ(meter.take("k", kStart + 225s, 40), std::nullopt);
}

}  // namespace
}  // namespace k8sgpu::kubelet_api
