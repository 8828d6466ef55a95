// What is made of the providers' readings: sums, rates, /stats/summary, /metrics/resource, /metrics/cadvisor.
#include <gtest/gtest.h>

#include "kubelet_api/stats_collector.h"
#include "kubelet_api/stats_metrics.h"
#include "kubelet_api/summary.h"
#include "tests/unit/kubelet_api/fake_provider.h"

namespace k8sgpu::kubelet_api {
namespace {

using namespace std::chrono_literals;
using providers::ContainerStats;
using providers::CpuStats;
using providers::MemoryStats;
using providers::PodStats;
using providers::StatsReport;

const WallTime kRead{1'700'000'000s + 123ms};

ContainerStats container(const std::string& name, std::uint64_t cpu, std::uint64_t memory) {
    ContainerStats out;
    out.name = name;
    out.start_time = WallTime{1'699'999'940s};
    out.cpu = CpuStats{kRead, cpu, {}, {}, {}};
    out.memory = MemoryStats{};
    out.memory->time = kRead;
    out.memory->working_set_bytes = memory;
    return out;
}

struct StatsTest : testing::Test {
    StatsTest() {
        pods.runs_pods = {&provider};
        pods.put(view("p", "uid-p", {"a", "b"}));
        provider.on_stats = [this](const CallContext&) { return report; };
    }
    PodView view(const std::string& name, const std::string& uid, const std::vector<std::string>& running) {
        Json pod = {
            {"metadata", {{"name", name}, {"namespace", "ns"}, {"uid", uid}}},
            {"spec", {{"containers", Json::array()}}},
            {"status", {{"startTime", "2023-11-14T22:12:00Z"}, {"containerStatuses", Json::array()}}}};
        for (const std::string& one : running) {
            pod["spec"]["containers"].push_back({{"name", one}, {"image", "img"}});
            pod["status"]["containerStatuses"].push_back(
                {{"name", one},
                 {"image", "docker.io/img:1"},
                 {"containerID", "x://id-" + one},
                 {"state", {{"running", {{"startedAt", "2023-11-14T22:12:20Z"}}}}}});
        }
        return {{"ns", name, uid}, std::make_shared<const Json>(std::move(pod)), &provider};
    }
    void measure(const PodId& id, std::vector<ContainerStats> containers) {
        PodStats pod;
        pod.id = id;
        pod.containers = std::move(containers);
        report.pods.push_back(std::move(pod));
    }
    CollectedStats collect() { return collector.collect(CallContext::until_stopped(clock, {})); }

    FakeClock clock;
    FakeProvider provider;
    MapLookup pods;
    StatsReport report;
    StatsCollector collector{clock, pods};
};

TEST_F(StatsTest, Adds_up_pods_and_the_node_from_what_is_measured) {
    measure({"ns", "p", "uid-p"}, {container("a", 1'500'000'000, 1000), container("b", 500'000'000, 24)});
    const CollectedStats stats = collect();
    ASSERT_EQ(stats.pods.size(), 1U);
    const PodStats& pod = stats.pods.front().stats;
    EXPECT_EQ(pod.cpu->usage_core_nano_seconds, 2'000'000'000U);
    EXPECT_EQ(pod.memory->working_set_bytes, 1024U);
    EXPECT_EQ(pod.memory->rss_bytes, std::nullopt) << "nobody measured it";
    EXPECT_GT(*stats.node.cpu->usage_core_nano_seconds, 2'000'000'000U) << "with this program's own";
    EXPECT_GT(*stats.node.memory->working_set_bytes, 1024U);
    EXPECT_FALSE(stats.failure);
}

TEST_F(StatsTest, Half_a_sum_is_not_shown) {
    auto without = container("b", 0, 0);
    without.cpu.reset();
    without.memory->working_set_bytes.reset();
    measure({"ns", "p", "uid-p"}, {container("a", 5, 5), without});
    const PodStats pod = collect().pods.front().stats;
    EXPECT_EQ(pod.cpu->usage_core_nano_seconds, std::nullopt);
    EXPECT_EQ(pod.memory->working_set_bytes, std::nullopt);
}

TEST_F(StatsTest, Shows_only_pods_of_this_node_and_containers_that_run) {
    pods.put(view("q", "uid-q", {"a"}));
    measure({"ns", "p", "uid-p"}, {container("a", 1, 1), container("ended", 1, 1)});
    measure({"ns", "q", "uid-of-the-former-q"}, {container("a", 1, 1)});
    const CollectedStats stats = collect();
    ASSERT_EQ(stats.pods.size(), 1U);
    EXPECT_EQ(stats.pods.front().stats.containers.size(), 1U);
    EXPECT_EQ(stats.pods.front().stats.id.name, "p");
}

TEST_F(StatsTest, The_node_never_goes_back_when_a_pod_is_gone) {
    measure({"ns", "p", "uid-p"}, {container("a", 9'000'000'000'000, 1)});
    const auto before = collect().node.cpu->usage_core_nano_seconds;
    pods.erase("ns/p");
    report.pods.clear();
    EXPECT_GE(collect().node.cpu->usage_core_nano_seconds, before);
}

TEST_F(StatsTest, A_rate_appears_with_the_second_reading) {
    measure({"ns", "p", "uid-p"}, {container("a", 1'000'000'000, 1)});
    EXPECT_EQ(collect().pods.front().stats.containers.front().cpu->usage_nano_cores, std::nullopt);
    report.pods.front().containers.front().cpu->time += 10s;
    report.pods.front().containers.front().cpu->usage_core_nano_seconds = 3'000'000'000;
    const CollectedStats second = collect();
    EXPECT_EQ(second.pods.front().stats.containers.front().cpu->usage_nano_cores, 200'000'000U);
    EXPECT_EQ(second.pods.front().stats.cpu->usage_nano_cores, 200'000'000U);
}

TEST_F(StatsTest, Without_a_source_or_with_one_that_may_not_measure_there_are_no_node_figures) {
    provider.on_stats = [](const CallContext&) -> Result<StatsReport> {
        return fail(ErrorKind::Forbidden, "no rule");
    };
    CollectedStats stats = collect();
    EXPECT_FALSE(stats.failure);
    EXPECT_FALSE(stats.node.cpu);
    EXPECT_TRUE(stats.agent.cpu) << "this program can always be measured";
    provider.on_stats = nullptr;
    stats = collect();
    EXPECT_FALSE(stats.node.memory);
    EXPECT_EQ(resource_metrics(stats).find("node_"), std::string::npos);
}

TEST_F(StatsTest, A_source_that_breaks_is_a_scrape_error) {
    provider.on_stats = [](const CallContext&) -> Result<StatsReport> {
        return fail(ErrorKind::Unavailable, "backend left");
    };
    const CollectedStats stats = collect();
    ASSERT_TRUE(stats.failure);
    EXPECT_FALSE(stats.node.cpu);
    EXPECT_NE(resource_metrics(stats).find("\nresource_scrape_error 1\n"), std::string::npos);
}

TEST_F(StatsTest, A_providers_own_node_figures_win) {
    measure({"ns", "p", "uid-p"}, {container("a", 1, 1)});
    report.node = providers::NodeStats{};
    report.node->cpu = CpuStats{kRead, 77, {}, {}, {}};
    const CollectedStats stats = collect();
    EXPECT_EQ(stats.node.cpu->usage_core_nano_seconds, 77U);
    EXPECT_TRUE(stats.node.memory) << "the rest is still added up";
}

TEST_F(StatsTest, Resource_metrics_are_what_metrics_server_reads) {
    measure({"ns", "p", "uid-p"}, {container("a", 1'500'000'000, 123'456'789), container("b", 0, 0)});
    report.node = providers::NodeStats{};
    report.node->cpu = CpuStats{kRead, 250'000'000, {}, {}, {}};
    report.node->memory = MemoryStats{};
    report.node->memory->time = kRead;
    report.node->memory->working_set_bytes = 4'294'967'296;
    EXPECT_EQ(
        resource_metrics(collect()),
        R"(# HELP node_cpu_usage_seconds_total [STABLE] Cumulative cpu time consumed by the node in core-seconds
# TYPE node_cpu_usage_seconds_total counter
node_cpu_usage_seconds_total 0.25 1700000000123
# HELP node_memory_working_set_bytes [STABLE] Current working set of the node in bytes
# TYPE node_memory_working_set_bytes gauge
node_memory_working_set_bytes 4294967296 1700000000123
# HELP container_start_time_seconds [STABLE] Start time of the container since unix epoch in seconds
# TYPE container_start_time_seconds gauge
container_start_time_seconds{container="a",namespace="ns",pod="p"} 1699999940
container_start_time_seconds{container="b",namespace="ns",pod="p"} 1699999940
# HELP container_cpu_usage_seconds_total [STABLE] Cumulative cpu time consumed by the container in core-seconds
# TYPE container_cpu_usage_seconds_total counter
container_cpu_usage_seconds_total{container="a",namespace="ns",pod="p"} 1.5 1700000000123
container_cpu_usage_seconds_total{container="b",namespace="ns",pod="p"} 1e-09 1700000000123
# HELP container_memory_working_set_bytes [STABLE] Current working set of the container in bytes
# TYPE container_memory_working_set_bytes gauge
container_memory_working_set_bytes{container="a",namespace="ns",pod="p"} 123456789 1700000000123
container_memory_working_set_bytes{container="b",namespace="ns",pod="p"} 4096 1700000000123
# HELP pod_cpu_usage_seconds_total [STABLE] Cumulative cpu time consumed by the pod in core-seconds
# TYPE pod_cpu_usage_seconds_total counter
pod_cpu_usage_seconds_total{namespace="ns",pod="p"} 1.5 1700000000123
# HELP pod_memory_working_set_bytes [STABLE] Current working set of the pod in bytes
# TYPE pod_memory_working_set_bytes gauge
pod_memory_working_set_bytes{namespace="ns",pod="p"} 123456789 1700000000123
# HELP resource_scrape_error [STABLE] 1 if there was an error while getting container metrics, 0 otherwise
# TYPE resource_scrape_error gauge
resource_scrape_error 0
# HELP scrape_error [ALPHA] (Deprecated since 1.29.0) 1 if there was an error while getting container metrics, 0 otherwise
# TYPE scrape_error gauge
scrape_error 0
)");
}

TEST_F(StatsTest, Cadvisor_metrics_carry_the_six_labels) {
    auto one = container("a", 2'000'000'000, 5000);
    one.process = providers::ProcessStats{kRead, 3, 4, {}, {}};
    measure({"ns", "p", "uid-p"}, {one});
    report.pods.front().network = providers::NetworkStats{kRead, {{"eth0", 10, {}, {}, {}, 20, {}, {}, {}}}};
    const std::string text = cadvisor_metrics(collect());
    const auto has = [&](const std::string& line) {
        EXPECT_NE(text.find("\n" + line + "\n"), std::string::npos) << line << "\nin\n" << text;
    };
    const std::string labels =
        R"({container="a",id="/kubepods/poduid-p/id-a",image="docker.io/img:1",name="id-a",namespace="ns",pod="p")";
    has("container_cpu_usage_seconds_total" + labels + R"(,cpu="total"} 2 1700000000123)");
    has("container_memory_working_set_bytes" + labels + "} 5000 1700000000123");
    has("container_processes" + labels + "} 3 1700000000123");
    has(R"(container_network_receive_bytes_total{container="",id="/kubepods/poduid-p",image="",name="",)"
        R"(namespace="ns",pod="p",interface="eth0"} 10 1700000000123)");
    EXPECT_EQ(text.find("container_memory_rss"), std::string::npos) << "not measured, not shown";
    EXPECT_EQ(text.find("container_sockets"), std::string::npos);
}

TEST_F(StatsTest, Label_values_are_escaped) {
    pods.put(view("we\"ird\\\n", "uid-w", {"a"}));
    measure({"ns", "we\"ird\\\n", "uid-w"}, {container("a", 1, 1)});
    EXPECT_NE(resource_metrics(collect()).find(R"(pod="we\"ird\\\n")"), std::string::npos);
}

TEST_F(StatsTest, The_summary_has_the_kubelets_fields_and_no_unknown_figure) {
    measure({"ns", "p", "uid-p"}, {container("a", 10, 20)});
    report.pods.front().containers.front().start_time.reset();
    report.pods.front().ephemeral_storage = providers::FileSystemStats{};
    report.pods.front().ephemeral_storage->time = kRead;
    report.pods.front().ephemeral_storage->used_bytes = 30;
    report.pods.front().process = providers::ProcessStats{kRead, 2, {}, {}, {}};
    const Json all = summary_json(collect(), "k8s.gpu", false);
    EXPECT_EQ(all["node"]["nodeName"], "k8s.gpu");
    EXPECT_EQ(all["node"]["systemContainers"][0]["name"], "kubelet");
    const Json want = {{"podRef", {{"name", "p"}, {"namespace", "ns"}, {"uid", "uid-p"}}},
                       {"startTime", "2023-11-14T22:12:00Z"},
                       {"containers",
                        {{{"name", "a"},
                          {"startTime", "2023-11-14T22:12:20Z"},
                          {"cpu", {{"time", "2023-11-14T22:13:20Z"}, {"usageCoreNanoSeconds", 10}}},
                          {"memory", {{"time", "2023-11-14T22:13:20Z"}, {"workingSetBytes", 20}}}}}},
                       {"cpu", {{"time", "2023-11-14T22:13:20Z"}, {"usageCoreNanoSeconds", 10}}},
                       {"memory", {{"time", "2023-11-14T22:13:20Z"}, {"workingSetBytes", 20}}},
                       {"ephemeral-storage", {{"time", "2023-11-14T22:13:20Z"}, {"usedBytes", 30}}},
                       {"process_stats", {{"process_count", 2}}}};
    EXPECT_EQ(all["pods"][0], want) << all["pods"][0].dump(1);
    const Json brief = summary_json(collect(), "k8s.gpu", true);
    EXPECT_FALSE(brief["pods"][0].contains("ephemeral-storage"));
    EXPECT_FALSE(brief["pods"][0].contains("process_stats"));
    EXPECT_TRUE(brief["pods"][0].contains("memory"));
}

}  // namespace
}  // namespace k8sgpu::kubelet_api
