#include "providers/kubernetes/stats.h"

#include <gtest/gtest.h>

#include "common/encoding.h"
#include "kube/testing/fake_transport.h"

namespace k8sgpu::providers::kubernetes {
namespace {

using namespace std::chrono_literals;

constexpr const char* kMetrics = "/apis/metrics.k8s.io/v1beta1/namespaces/gpu/pods";
constexpr const char* kSummary = "/api/v1/nodes/worker/proxy/stats/summary";

struct NoListener final : RemotePods::Listener {
    void on_present(const RemotePod&) override {}
    void on_gone(const RemotePod&) override {}
    void on_vanished(const RemotePod&) override {}
    void on_watching() override {}
    void on_watch_failed(const Error&) override {}
};

struct RemoteStatsTest : testing::Test {
    void add_pod() {
        Json pod = {
            {"metadata", {{"name", remote_pod_name(id)}, {"namespace", "gpu"}, {"uid", "remote-1"}}},
            {"spec", {{"nodeName", "worker"}}},
            {"status",
             {{"containerStatuses",
               {{{"name", "c"}, {"state", {{"running", {{"startedAt", "2023-11-14T22:00:00Z"}}}}}}}}}}};
        mark_pod(pod["metadata"], owner, id);
        pods.on_listed({std::make_shared<const Json>(std::move(pod))});
        ASSERT_TRUE(pods.find("uid-1"));
    }
    Json metrics(const std::string& time, const std::string& cpu) {
        return {{"kind", "PodMetricsList"},
                {"metadata", Json::object()},
                {"items",
                 {{{"metadata", {{"name", remote_pod_name(id)}}},
                   {"timestamp", time},
                   {"window", "10s"},
                   {"containers", {{{"name", "c"}, {"usage", {{"cpu", cpu}, {"memory", "12Mi"}}}}}}},
                  {{"metadata", {{"name", "of-somebody-else"}}},
                   {"timestamp", time},
                   {"containers", Json::array()}}}}};
    }
    Result<StatsReport> read() { return stats.stats(CallContext::until_stopped(clock, {})); }
    ContainerStats container() {
        auto report = read();
        EXPECT_TRUE(report) << (report ? "" : report.error().message);
        if (!report || report->pods.size() != 1 || report->pods[0].containers.size() != 1) return {};
        return report->pods[0].containers[0];
    }

    FakeClock clock;
    kube::FakeTransport transport;
    kube::ApiClient remote{transport};
    OwnerMark owner{"cluster-1", "k8s.gpu"};
    PodId id{"ns", "p", "uid-1"};
    NoListener listener;
    RemotePods pods{owner, listener};
    RemoteStats stats{remote, pods, "gpu", owner};
};

TEST_F(RemoteStatsTest, Takes_the_metrics_api_where_it_is_served) {
    add_pod();
    transport.reply("GET", kMetrics, 200, metrics("2023-11-14T22:10:00Z", "250000000n"));
    const ContainerStats one = container();
    EXPECT_EQ(one.cpu->usage_nano_cores, 250'000'000U);
    EXPECT_EQ(one.cpu->usage_core_nano_seconds, 2'500'000'000U) << "the rate over its window";
    EXPECT_EQ(one.cpu->time, *parse_rfc3339("2023-11-14T22:10:00Z"));
    EXPECT_EQ(one.memory->working_set_bytes, 12U << 20U);
    EXPECT_EQ(one.memory->rss_bytes, std::nullopt);
    EXPECT_EQ(one.start_time, parse_rfc3339("2023-11-14T22:00:00Z"));
    EXPECT_TRUE(transport.requests("GET", kSummary).empty());
}

TEST_F(RemoteStatsTest, Rates_become_a_counter_that_never_goes_back) {
    add_pod();
    transport.reply("GET", kMetrics, 200, metrics("2023-11-14T22:10:00Z", "1"));
    EXPECT_EQ(container().cpu->usage_core_nano_seconds, 10'000'000'000U);
    clock.advance(6s);
    EXPECT_EQ(container().cpu->usage_core_nano_seconds, 10'000'000'000U) << "the same sample";
    transport.reply("GET", kMetrics, 200, metrics("2023-11-14T22:10:15Z", "500m"));
    clock.advance(6s);
    EXPECT_EQ(container().cpu->usage_core_nano_seconds, 17'500'000'000U);
}

TEST_F(RemoteStatsTest, A_reading_is_kept_for_some_seconds) {
    add_pod();
    transport.reply("GET", kMetrics, 200, metrics("2023-11-14T22:10:00Z", "1"));
    (void)read();
    clock.advance(4s);
    (void)read();
    EXPECT_EQ(transport.requests("GET", kMetrics).size(), 1U);
    clock.advance(2s);
    (void)read();
    EXPECT_EQ(transport.requests("GET", kMetrics).size(), 2U);
}

TEST_F(RemoteStatsTest, Takes_the_nodes_summary_where_the_metrics_api_is_not_served) {
    add_pod();
    const Json cpu = {{"time", "2023-11-14T22:10:00Z"}, {"usageCoreNanoSeconds", 7'000'000'000}};
    const Json memory = {{"time", "2023-11-14T22:10:00Z"}, {"workingSetBytes", 4096}, {"rssBytes", 1024}};
    const Json one = {{"name", "c"}, {"startTime", "2023-11-14T22:00:00Z"}, {"cpu", cpu}, {"memory", memory}};
    const Json fs = {
        {"time", "2023-11-14T22:10:00Z"}, {"usedBytes", 5}, {"availableBytes", 99}, {"capacityBytes", 100}};
    transport.reply("GET", kSummary, 200,
                    {{"node", {{"cpu", cpu}}},
                     {"pods",
                      {{{"podRef", {{"uid", "remote-1"}}},
                        {"containers", {one}},
                        {"cpu", cpu},
                        {"ephemeral-storage", fs},
                        {"network",
                         {{"time", "2023-11-14T22:10:00Z"},
                          {"name", "eth0"},
                          {"interfaces", {{{"name", "lo"}}, {{"name", "eth0"}, {"rxBytes", 3}}}}}}},
                       {{"podRef", {{"uid", "of-another-tenant"}}}, {"containers", {one}}}}}});
    const auto report = read();
    ASSERT_TRUE(report) << report.error().message;
    ASSERT_EQ(report->pods.size(), 1U);
    const PodStats& pod = report->pods.front();
    EXPECT_EQ(pod.id, id);
    EXPECT_EQ(pod.cpu->usage_core_nano_seconds, 7'000'000'000U);
    EXPECT_EQ(pod.containers.front().memory->rss_bytes, 1024U);
    EXPECT_EQ(pod.ephemeral_storage->used_bytes, 5U);
    EXPECT_EQ(pod.ephemeral_storage->capacity_bytes, std::nullopt)
        << "the operator's disk is not the tenant's";
    ASSERT_EQ(pod.network->interfaces.size(), 2U);
    EXPECT_EQ(pod.network->interfaces.front().name, "eth0");
    EXPECT_FALSE(report->node) << "the remote machine is not this node";
}

TEST_F(RemoteStatsTest, Nothing_allowed_is_absent_and_not_asked_again_for_minutes) {
    add_pod();
    const Json forbidden = {{"kind", "Status"}, {"reason", "Forbidden"}, {"message", "no"}, {"code", 403}};
    transport.reply("GET", kMetrics, 403, forbidden);
    transport.reply("GET", kSummary, 403, forbidden);
    EXPECT_EQ(read().error().kind, ErrorKind::Unsupported);
    clock.advance(60s);
    EXPECT_EQ(read().error().kind, ErrorKind::Unsupported);
    EXPECT_EQ(transport.requests("GET", kMetrics).size(), 1U);
    clock.advance(300s);
    transport.reply("GET", kMetrics, 200, metrics("2023-11-14T22:10:00Z", "1"));
    EXPECT_TRUE(read()) << "the operator gave the rule meanwhile";
}

TEST_F(RemoteStatsTest, A_metrics_api_that_is_down_is_an_error_and_not_absence) {
    add_pod();
    transport.reply("GET", kMetrics, 503, {{"kind", "Status"}, {"message", "down"}, {"code", 503}});
    transport.reply("GET", kSummary, 403, {{"kind", "Status"}, {"reason", "Forbidden"}, {"code", 403}});
    EXPECT_EQ(read().error().kind, ErrorKind::Unavailable);
}

TEST_F(RemoteStatsTest, Without_pods_nobody_claims_that_nodes_would_answer) {
    EXPECT_EQ(read().error().kind, ErrorKind::Unsupported);
}

TEST(RateIntegrator, A_new_run_begins_at_its_own_window) {
    RateIntegrator counters;
    const WallTime t{1'700'000'000s};
    EXPECT_EQ(counters.take("c", t, t + 60s, 10s, 1'000'000'000), 10'000'000'000U);
    EXPECT_EQ(counters.take("c", t + 70s, t + 90s, 5s, 1'000'000'000), 5'000'000'000U);
    EXPECT_EQ(counters.take("c", t + 70s, t + 900s, 5s, 1'000'000'000), 10'000'000'000U) << "after a gap";
    counters.forget_before(t + 1000s);
    EXPECT_EQ(counters.take("c", t + 70s, t + 1001s, 1s, 1'000'000'000), 1'000'000'000U);
}

TEST(StatsDecode, Reads_windows_as_go_writes_them) {
    EXPECT_EQ(parse_window("15.1s"), 15'100ms);
    EXPECT_EQ(parse_window("1m0.5s"), 60'500ms);
    EXPECT_EQ(parse_window("900ms"), 900ms);
    for (const char* text : {"", "15", "s", "-1s", "1x"}) EXPECT_EQ(parse_window(text), 0ns) << text;
}

}  // namespace
}  // namespace k8sgpu::providers::kubernetes
