// Users, capabilities, process tables, events: what the other files of this folder have no test file for.
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "fixture.h"
#include "providers/process/pod_events.h"
#include "providers/process/prepare.h"
#include "providers/process/process_table.h"
#include "providers/process/shim_container.h"
#include "providers/process/spawn.h"

namespace k8sgpu::providers::process {
namespace {

TEST(ParseStat, Reads_names_with_blanks_and_parentheses) {
    const auto info = parse_stat(
        "42 (a) (b c) S 7 42 41 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 12345 6 7 18446744073709551615 1");
    ASSERT_TRUE(info);
    EXPECT_EQ(info->state, 'S');
    EXPECT_EQ(info->parent, 7);
    EXPECT_EQ(info->session, 41);
    EXPECT_EQ(info->start_time, 12345U);
    for (const char* line : {"", "42 (x", "42 (x) S", "42 (x) S 1 2 3 4"})
        EXPECT_FALSE(parse_stat(line)) << line;
}

TEST(ProcessTable, Knows_this_process) {
    const ProcessTable table = read_process_table();
    ASSERT_TRUE(table.contains(::getpid()));
    EXPECT_EQ(table.at(::getpid()).parent, ::getppid());
}

TEST(Descendants, Are_found_at_any_depth_and_loops_end) {
    ProcessTable table;
    for (const auto& [pid, parent] : {std::pair{1, 0}, std::pair{2, 1}, std::pair{3, 2}, std::pair{4, 3},
                                      std::pair{5, 1}, std::pair{6, 7}, std::pair{7, 6}}) {
        table[pid].parent = parent;
    }
    EXPECT_EQ(descendants(table, 2), (std::set<pid_t>{3, 4}));
    EXPECT_EQ(descendants(table, 5), std::set<pid_t>{});
    EXPECT_EQ(descendants(table, 6), std::set<pid_t>{7});
}

TEST(FindExecutable, Looks_in_the_containers_PATH) {
    EXPECT_EQ(find_executable("sh", "/nowhere:/bin").value_or(""), "/bin/sh");
    EXPECT_EQ(find_executable("./sh", "").value_or(""), "./sh");
    for (const char* path : {"", ":", "/nowhere", "/proc"}) {
        const auto found = find_executable("sh", path);
        ASSERT_FALSE(found) << path;
        EXPECT_EQ(found.error().kind, ErrorKind::NotFound);
    }
    EXPECT_FALSE(find_executable("", "/bin"));
}

TEST(LastLines, Are_80_and_2048_bytes_at_most) {
    EXPECT_EQ(last_lines(""), "");
    EXPECT_EQ(last_lines("one\ntwo"), "one\ntwo");
    std::string many, expected;
    for (int i = 0; i < 100; ++i) many += fmt::format("{}\n", i);
    for (int i = 20; i < 100; ++i) expected += fmt::format("{}\n", i);
    EXPECT_EQ(last_lines(many), expected);
    EXPECT_EQ(last_lines(std::string(5000, 'x')).size(), 2048U);
}

// One container "c" in this state.
Json status(const char* container) {
    Json json = {{"containerStatuses", {Json::parse(container)}}};
    json["containerStatuses"][0]["name"] = "c";
    return json;
}

TEST(EventsBetween, Are_those_of_a_kubelet) {
    const PodId pod{"ns", "p", "u"};
    const Json waiting =
        status(R"({"state": {"waiting": {"reason": "ContainerCreating"}}, "lastState": {}})");
    const Json running =
        status(R"({"containerID": "process://1", "state": {"running": {}}, "lastState": {}})");
    const Json backing_off =
        status(R"({"containerID": "process://1", "state": {"waiting": {"reason": "CrashLoopBackOff"}},
        "lastState": {"terminated": {"exitCode": 1, "reason": "Error"}}})");
    const Json not_started = status(R"({"containerID": "process://1", "lastState": {}, "state": {"terminated":
        {"exitCode": 128, "reason": "StartError", "message": "exec: no"}}})");
    using Events = std::vector<PodEvent>;
    EXPECT_EQ(events_between(pod, waiting, running, false, false),
              (Events{{"Normal", "Created", "Created container: c"},
                      {"Normal", "Started", "Started container c"}}));
    EXPECT_EQ(events_between(pod, running, running, false, false), Events{});
    EXPECT_EQ(events_between(pod, running, running, false, true),
              (Events{{"Normal", "Killing", "Stopping container c"}}));
    EXPECT_EQ(events_between(pod, running, running, true, true), Events{});
    EXPECT_EQ(events_between(pod, running, backing_off, false, false),
              (Events{{"Warning", "BackOff", "Back-off restarting failed container c in pod p_ns(u)"}}));
    EXPECT_EQ(events_between(pod, backing_off, backing_off, false, false), Events{});
    EXPECT_EQ(events_between(pod, waiting, not_started, false, false),
              (Events{{"Warning", "Failed", "Error: exec: no"}}));
    Json late = running;
    late["reason"] = "DeadlineExceeded";
    late["message"] = "too long";
    EXPECT_EQ(events_between(pod, running, late, false, false),
              (Events{{"Normal", "DeadlineExceeded", "too long"}}));
}

TEST_F(ProviderTest, Zero_bytes_that_no_process_can_be_given_block_the_pod) {
    objects().put(LocalKind::ConfigMap, "m", {{"k", std::string("a\0b", 3)}});
    DesiredPod desired = pod("true");
    desired.pod["spec"]["containers"][0]["envFrom"] = {{{"configMapRef", {{"name", "m"}}}}};
    const auto outcome = provider().ensure(desired, context());
    ASSERT_TRUE(outcome);
    ASSERT_TRUE(std::holds_alternative<Blocked>(*outcome));
    EXPECT_EQ(std::get<Blocked>(*outcome).waiting_reason, "CreateContainerError");
    EXPECT_EQ(std::get<Blocked>(*outcome).waiting_message,
              "environment variable k contains a zero byte, which no process can be given");
}

TEST_F(ProviderTest, A_root_agent_runs_containers_as_their_user_with_nothing_more) {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root";
    DesiredPod desired =
        pod("id -u; id -g; id -G; grep -E '^(NoNewPrivs|CapBnd)' /proc/self/status; touch mine && echo "
            "wrote; printf note > $K8SGPU_TERMINATION_LOG");
    desired.pod["spec"]["securityContext"] = {
        {"runAsUser", 12345}, {"runAsGroup", 23456}, {"fsGroup", 34567}};
    desired.pod["spec"]["containers"][0]["securityContext"] = {{"allowPrivilegeEscalation", false},
                                                               {"capabilities", {{"drop", {"ALL"}}}}};
    run(desired);
    ASSERT_TRUE(wait_ended(desired));
    EXPECT_EQ(log_of(desired),
              "12345\n23456\n23456 34567\nCapBnd:\t0000000000000000\nNoNewPrivs:\t1\nwrote\n");
    EXPECT_EQ(container(desired)["state"]["terminated"]["message"], "note");
}

TEST_F(ProviderTest, A_working_directory_that_is_not_there_is_a_StartError) {
    DesiredPod desired = pod("true");
    desired.pod["spec"]["containers"][0]["workingDir"] = "/no/such/directory";
    run(desired);
    ASSERT_TRUE(wait_ended(desired));
    EXPECT_EQ(container(desired)["state"]["terminated"]["reason"], "StartError");
    EXPECT_EQ(container(desired)["state"]["terminated"]["message"],
              "working directory \"/no/such/directory\": No such file or directory");
}

}  // namespace
}  // namespace k8sgpu::providers::process
