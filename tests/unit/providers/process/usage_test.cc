#include "providers/process/usage.h"

#include <gtest/gtest.h>
#include <fstream>

#include "fixture.h"

namespace k8sgpu::providers::process {
namespace {

TEST(NodeUsage, Is_read_from_what_the_kernel_says) {
    const WallTime now(std::chrono::seconds(5));
    const std::string stat =
        "cpu  100 20 30 9999 8888 4 5 6 0 0\ncpu0 1 2 3\nbtime 1700000000\nprocesses 7\n";
    const auto cpu = parse_node_cpu(stat, now);
    ASSERT_TRUE(cpu);
    EXPECT_EQ(cpu->usage_core_nano_seconds, cpu_nanoseconds(165)) << "without idle and waiting";
    EXPECT_EQ(cpu->user_nano_seconds, cpu_nanoseconds(120));
    EXPECT_EQ(cpu->system_nano_seconds, cpu_nanoseconds(39));
    EXPECT_EQ(parse_boot_time(stat), WallTime(std::chrono::seconds(1700000000)));
    const auto memory = parse_node_memory(
        "MemTotal:       1000 kB\nMemFree:         300 kB\nMemAvailable: 600 kB\nInactive(file):  200 kB\n"
        "AnonPages:       150 kB\nSwapTotal: 50 kB\nSwapFree: 20 kB\n",
        now);
    ASSERT_TRUE(memory);
    EXPECT_EQ(memory->usage_bytes, 700U * 1024);
    EXPECT_EQ(memory->working_set_bytes, 500U * 1024);
    EXPECT_EQ(memory->available_bytes, 500U * 1024);
    EXPECT_EQ(memory->rss_bytes, 150U * 1024);
    EXPECT_EQ(memory->swap_bytes, 30U * 1024);
    EXPECT_FALSE(parse_node_cpu("", now));
    EXPECT_FALSE(parse_node_cpu("intr 1 2 3 4 5 6 7 8 9", now));
    EXPECT_FALSE(parse_boot_time("cpu 1"));
    EXPECT_FALSE(parse_node_memory("MemTotal: 1 kB\n", now));
}

class UsageTest : public ProviderTest {
  protected:
    std::optional<PodStats> usage(const DesiredPod& desired) {
        const auto report = provider().stats(context());
        if (!report) return std::nullopt;
        for (const PodStats& pod : report->pods) {
            if (pod.id.uid == desired.id.uid) return pod;
        }
        return std::nullopt;
    }
    std::uint64_t cpu(const DesiredPod& desired) {
        const auto pod = usage(desired);
        return pod && pod->containers.size() == 1 ? *pod->containers[0].cpu->usage_core_nano_seconds : 0;
    }
};

constexpr const char* kBusy = "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done";

TEST_F(UsageTest, A_pod_shows_its_memory_processes_and_start) {
    const DesiredPod desired = pod("sleep 60 & sleep 60 & echo up; wait");
    run(desired);
    ASSERT_TRUE(eventually([&] { return log_of(desired) == "up\n" && living(desired).size() == 3; }));
    const auto pod = usage(desired);
    ASSERT_TRUE(pod);
    ASSERT_EQ(pod->containers.size(), 1U);
    const ContainerStats& c = pod->containers[0];
    EXPECT_EQ(c.name, "c");
    ASSERT_TRUE(c.start_time && pod->start_time);
    EXPECT_LT(clock_.wall_now() - *c.start_time, std::chrono::minutes(5));
    EXPECT_EQ(c.process->processes, 3U);
    EXPECT_EQ(c.process->threads, 3U);
    EXPECT_GE(*c.process->file_descriptors, 9U);
    EXPECT_GT(*c.memory->rss_bytes, 50'000U);
    EXPECT_LT(*c.memory->working_set_bytes, 100U << 20U);
    EXPECT_GE(*c.memory->working_set_bytes, *c.memory->rss_bytes);
    EXPECT_GT(*c.logs->used_bytes, 0U);
    EXPECT_EQ(pod->process->processes, 3U);
}

TEST_F(UsageTest, Work_of_children_that_have_ended_stays_counted) {
    const DesiredPod desired = pod(std::string("(") + kBusy + "); echo waited; (setsid sh -c '" + kBusy +
                                   "; echo orphan' &); sleep 60");
    run(desired);
    ASSERT_TRUE(eventually([&] { return log_of(desired).find("waited") != std::string::npos; }));
    const auto waited = cpu(desired);
    EXPECT_GT(waited, 50'000'000U);
    ASSERT_TRUE(eventually([&] { return log_of(desired).find("orphan") != std::string::npos; }));
    // The orphan is the shim's to reap: what it used shows there.
    EXPECT_TRUE(eventually([&] { return living(desired).size() == 2; }));
    EXPECT_GT(cpu(desired), waited + 50'000'000U);
}

TEST_F(UsageTest, Never_goes_back_and_starts_anew_with_a_new_run) {
    DesiredPod desired = pod(std::string(kBusy) + "; while [ ! -e go ]; do sleep 0.02; done; rm go; exit 1");
    desired.pod["spec"]["restartPolicy"] = "Always";
    run(desired);
    std::uint64_t last = 0;
    for (int i = 0; i < 20; ++i) {
        const auto now = cpu(desired);
        EXPECT_GE(now, last);
        last = now;
    }
    ASSERT_TRUE(eventually([&] { return cpu(desired) > 50'000'000U; }));
    const auto first_run = cpu(desired);
    const auto pod_before = *usage(desired)->cpu->usage_core_nano_seconds;
    std::ofstream(paths(desired).work() + "/go");
    ASSERT_TRUE(eventually(
        [&] { return container(desired)["restartCount"] == 1 && usage(desired)->containers.size() == 1; }));
    EXPECT_LT(cpu(desired), first_run + 40'000'000U) << "the first run's work is not the second's";
    EXPECT_GE(*usage(desired)->cpu->usage_core_nano_seconds, pod_before) << "but it is the pod's";
}

TEST_F(UsageTest, Only_running_pods_are_there_and_the_node_is_measured) {
    const DesiredPod desired = pod("true");
    run(desired);
    ASSERT_TRUE(wait_ended(desired));
    EXPECT_FALSE(usage(desired));
    const auto report = provider().stats(context());
    ASSERT_TRUE(report && report->node);
    EXPECT_GT(*report->node->cpu->usage_core_nano_seconds, 0U);
    EXPECT_GT(*report->node->memory->working_set_bytes, 0U);
    EXPECT_GT(*report->node->fs->capacity_bytes, 0U);
    EXPECT_GT(*report->node->max_processes, *report->node->processes);
    EXPECT_LT(*report->node->start_time, clock_.wall_now());
}

}  // namespace
}  // namespace k8sgpu::providers::process
