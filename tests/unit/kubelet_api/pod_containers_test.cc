#include "kubelet_api/pod_containers.h"

#include <gtest/gtest.h>

#include "tests/unit/kubelet_api/fake_provider.h"

namespace k8sgpu::kubelet_api {
namespace {

const Json kNone = Json::object();
const Json kRunning = {{"running", {{"startedAt", "x"}}}};
const Json kEnded = {{"terminated", {{"containerID", "x://1"}, {"exitCode", 1}}}};
const Json kEndedNameless = {{"terminated", {{"exitCode", 1}}}};

Json waiting(const char* reason) {
    return {{"waiting", {{"reason", reason}}}};
}

TEST(LogAvailable, Follows_the_kubelets_table) {
    struct Row {
        Json state, last;
        bool previous;
        const char* text;  // "" = available
    };
    const Row rows[] = {
        {kRunning, kNone, false, ""},
        {kRunning, kNone, true, R"(previous terminated container "c" in pod "p" not found)"},
        {kRunning, kEnded, true, ""},
        {kRunning, kEndedNameless, true, R"(previous terminated container "c" in pod "p" not found)"},
        {kEnded, kNone, false, ""},
        {kEndedNameless, kEnded, false, ""},
        {kEndedNameless, kNone, false, R"(container "c" in pod "p" is terminated)"},
        {waiting("CrashLoopBackOff"), kEnded, false, ""},
        {waiting("ErrImagePull"), kNone, false,
         R"(container "c" in pod "p" is waiting to start: image can't be pulled)"},
        {waiting("ImagePullBackOff"), kNone, false,
         R"(container "c" in pod "p" is waiting to start: trying and failing to pull image)"},
        {waiting("ContainerCreating"), kNone, false,
         R"(container "c" in pod "p" is waiting to start: ContainerCreating)"},
        {kNone, kNone, false, R"(container "c" in pod "p" is waiting to start - no logs yet)"},
    };
    for (const Row& row : rows) {
        const auto available = check_log_available(pod_json(row.state, row.last), "c", row.previous);
        EXPECT_EQ(available ? "" : available.error().message, row.text);
    }
}

TEST(LogAvailable, Without_a_status_there_is_nothing) {
    EXPECT_EQ(check_log_available(pod_json(kRunning), "fresh", false).error().message,
              R"(container "fresh" in pod "p" is not available)");
}

TEST(PodContainers, Init_containers_count) {
    const Json pod = pod_json(kRunning);
    EXPECT_TRUE(has_container(pod, "init"));
    EXPECT_TRUE(check_log_available(pod, "init", false));
    EXPECT_FALSE(has_container(pod, "nope"));
    EXPECT_TRUE(is_running(pod, "c"));
    EXPECT_FALSE(is_running(pod, "init"));
    EXPECT_FALSE(is_running(pod, "nope"));
}

}  // namespace
}  // namespace k8sgpu::kubelet_api
