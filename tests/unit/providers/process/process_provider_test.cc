#include "providers/process/process_provider.h"

#include <fmt/format.h>
#include <signal.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>

#include "common/encoding.h"
#include "fixture.h"

namespace k8sgpu::providers::process {
namespace {

using std::chrono::seconds;

TEST_F(ProviderTest, A_pod_runs_to_its_end_and_tells_its_exit_code_and_output) {
    const DesiredPod desired = pod("echo out; echo err >&2; printf half; exit 3");
    run(desired);
    ASSERT_TRUE(wait_ended(desired));
    EXPECT_EQ(phase(desired), "Failed");
    const Json status = container(desired);
    EXPECT_EQ(status["state"]["terminated"]["exitCode"], 3);
    EXPECT_EQ(status["state"]["terminated"]["reason"], "Error");
    EXPECT_EQ(status["restartCount"], 0);
    const std::string log = log_of(desired);
    EXPECT_NE(log.find("out\n"), std::string::npos);
    EXPECT_NE(log.find("err\n"), std::string::npos);
    EXPECT_EQ(log.find("half\n"), std::string::npos);
    EXPECT_NE(log.find("half"), std::string::npos);
}

TEST_F(ProviderTest, Success_is_reported_to_the_observer_with_its_Events) {
    const DesiredPod desired = pod("exit 0");
    run(desired);
    ASSERT_TRUE(eventually([&] {
        const auto seen = observer().latest(desired.id.uid);
        return seen && !seen->may_be_running && seen->status["phase"] == "Succeeded";
    }));
    EXPECT_FALSE(observer().latest(desired.id.uid)->gone);
    EXPECT_FALSE(observer().latest(desired.id.uid)->removing);
}

TEST_F(ProviderTest, Ensure_again_starts_nothing_twice_running_or_ended) {
    const DesiredPod desired = pod("echo x >> marks; echo ready; sleep 60");
    run(desired);
    ASSERT_TRUE(eventually([&] { return log_of(desired) == "ready\n"; }));
    const pid_t shim = shim_pid(desired);
    run(desired);
    restart_provider();
    run(desired);
    EXPECT_EQ(shim_pid(desired), shim);
    EXPECT_EQ(read(paths(desired).work() + "/marks"), "x\n");
    ASSERT_TRUE(provider().remove(desired.id, seconds(0), context()));
    ASSERT_TRUE(wait_ended(desired));
    run(desired);
    EXPECT_EQ(read(paths(desired).work() + "/marks"), "x\n");
}

TEST_F(ProviderTest, A_new_agent_adopts_the_pod_with_its_shim_status_logs_and_exec) {
    const DesiredPod desired = pod("echo first; while [ ! -e go ]; do sleep 0.02; done; echo second; exit 5");
    run(desired);
    ASSERT_TRUE(wait_running(desired));
    const pid_t shim = shim_pid(desired);
    const std::string id = container(desired)["containerID"];
    restart_provider();
    ASSERT_TRUE(eventually([&] { return observer().latest(desired.id.uid).has_value(); }));
    const auto listed = provider().list(context());
    ASSERT_TRUE(listed);
    ASSERT_EQ(listed->size(), 1U);
    EXPECT_EQ(listed->front().id, desired.id);
    EXPECT_TRUE(listed->front().may_be_running);
    EXPECT_EQ(shim_pid(desired), shim);
    EXPECT_EQ(container(desired)["containerID"], id);
    std::ofstream(paths(desired).work() + "/go");
    ASSERT_TRUE(eventually([&] {
        const auto seen = observer().latest(desired.id.uid);
        return seen && !seen->may_be_running;
    }));
    EXPECT_EQ(container(desired)["state"]["terminated"]["exitCode"], 5);
    EXPECT_EQ(log_of(desired), "first\nsecond\n");
}

TEST_F(ProviderTest, A_killed_shim_takes_its_containers_along_and_the_pod_is_never_run_again) {
    const DesiredPod desired = pod("echo x >> marks; setsid sleep 61 & sleep 60 & echo ready; wait");
    run(desired);
    ASSERT_TRUE(eventually([&] { return log_of(desired) == "ready\n"; }));
    ASSERT_EQ(::kill(shim_pid(desired), SIGKILL), 0);
    ASSERT_TRUE(eventually([&] {
        const auto seen = observer().latest(desired.id.uid);
        return seen && !seen->may_be_running;
    }));
    EXPECT_TRUE(living(desired).empty());
    const Json status = container(desired);
    EXPECT_EQ(phase(desired), "Failed");
    EXPECT_EQ(status["state"]["terminated"]["exitCode"], 137);
    EXPECT_EQ(status["state"]["terminated"]["reason"], "ContainerStatusUnknown");
    EXPECT_EQ(observe(desired).status["reason"], "SupervisorLost");
    run(desired);
    restart_provider();
    run(desired);
    EXPECT_TRUE(living(desired).empty());
    EXPECT_EQ(read(paths(desired).work() + "/marks"), "x\n");
}

TEST_F(ProviderTest, A_shim_that_died_while_no_agent_ran_is_found_by_list) {
    const DesiredPod desired = pod("setsid sleep 61 & echo ready; sleep 60");
    run(desired);
    ASSERT_TRUE(eventually([&] { return log_of(desired) == "ready\n"; }));
    provider().stop();
    ASSERT_EQ(::kill(shim_pid(desired), SIGKILL), 0);
    restart_provider();
    ASSERT_TRUE(eventually([&] {
        const auto listed = provider().list(context());
        return listed && listed->size() == 1 && !listed->front().may_be_running;
    }));
    EXPECT_EQ(phase(desired), "Failed");
    EXPECT_TRUE(living(desired).empty());
}

TEST_F(ProviderTest, After_a_reboot_a_pod_that_ran_is_Failed_and_nothing_is_killed_or_run) {
    const DesiredPod desired = pod("echo ready; exec sleep 60");
    run(desired);
    ASSERT_TRUE(eventually([&] { return log_of(desired) == "ready\n"; }));
    provider().stop();
    const pid_t shim = shim_pid(desired);
    ASSERT_EQ(::kill(shim, SIGKILL), 0);
    ASSERT_TRUE(eventually([&] { return living(desired).empty(); }));
    // The numbers of that boot belong to others now.
    const Json mark = {{"pid", 1}, {"startTime", 1}, {"bootId", "another boot"}};
    std::ofstream(paths(desired).shim()) << mark.dump();
    restart_provider();
    // While the watcher cleans up, a question is answered with what was known before.
    EXPECT_TRUE(eventually([&] { return observe(desired).status["reason"] == "HostRebooted"; }));
    EXPECT_EQ(phase(desired), "Failed");
    run(desired);
    EXPECT_TRUE(living(desired).empty());
}

TEST_F(ProviderTest, An_intent_without_a_start_is_no_pod_and_written_anew_by_the_next_ensure) {
    options().shim_command = {"/bin/false"};
    restart_provider();
    const DesiredPod desired = pod("echo ran");
    const auto failed = provider().ensure(desired, context());
    ASSERT_FALSE(failed);
    EXPECT_EQ(failed.error().kind, ErrorKind::Unavailable);
    EXPECT_TRUE(observe(desired).gone);
    EXPECT_TRUE(provider().list(context())->empty());
    options().shim_command = {"/proc/self/exe", "process-shim"};
    restart_provider();
    EXPECT_FALSE(std::filesystem::exists(paths(desired).dir));
    run(desired);
    ASSERT_TRUE(wait_ended(desired));
    EXPECT_EQ(log_of(desired), "ran\n");
}

TEST_F(ProviderTest, A_creation_cut_short_is_cleared_at_the_next_start_and_nothing_of_others_is) {
    const std::string pods = pods_directory(state_);
    std::filesystem::create_directories(pods + "/cut/work");
    std::ofstream(pods + "/cut/pod.json.a1b2c3") << "secret";
    std::filesystem::create_directories(pods + "/foreign/work");
    std::ofstream(pods + "/foreign/work/thesis") << "years";
    std::ofstream(pods + "/note") << "to myself";
    std::filesystem::create_directories(pods + "/.trash-old/logs");
    restart_provider();
    EXPECT_FALSE(std::filesystem::exists(pods + "/cut"));
    EXPECT_FALSE(std::filesystem::exists(pods + "/.trash-old"));
    EXPECT_EQ(read(pods + "/foreign/work/thesis"), "years");
    EXPECT_EQ(read(pods + "/note"), "to myself");
    EXPECT_TRUE(provider().list(context())->empty());
}

TEST_F(ProviderTest, Removing_what_was_never_started_leaves_nothing) {
    options().shim_command = {"/bin/false"};
    restart_provider();
    const DesiredPod desired = pod("echo ran");
    ASSERT_FALSE(provider().ensure(desired, context()));
    EXPECT_TRUE(std::filesystem::exists(paths(desired).intent()));
    ASSERT_TRUE(provider().remove(desired.id, seconds(30), context()));
    EXPECT_FALSE(std::filesystem::exists(paths(desired).dir));
}

TEST_F(ProviderTest, Remove_lets_the_process_end_in_order_and_the_trace_goes_after_a_while) {
    options().linger = Duration(300);
    restart_provider();
    const DesiredPod desired = pod("trap 'echo bye; exit 7' TERM; echo ready; while :; do sleep 0.02; done");
    run(desired);
    ASSERT_TRUE(eventually([&] { return log_of(desired) == "ready\n"; }));
    ASSERT_TRUE(provider().remove(desired.id, seconds(30), context()));
    ASSERT_TRUE(provider().remove(desired.id, seconds(30), context()));
    ASSERT_TRUE(eventually([&] {
        const auto seen = observer().latest(desired.id.uid);
        return seen && seen->removing && !seen->may_be_running;
    }));
    EXPECT_EQ(
        observer().latest(desired.id.uid)->status["containerStatuses"][0]["state"]["terminated"]["exitCode"],
        7);
    ASSERT_TRUE(eventually([&] { return observer().latest(desired.id.uid)->gone; }));
    EXPECT_EQ(
        observer().latest(desired.id.uid)->status["containerStatuses"][0]["state"]["terminated"]["exitCode"],
        7);
    EXPECT_FALSE(std::filesystem::exists(paths(desired).dir));
    EXPECT_TRUE(observer().has_event(desired.id.uid, "Normal Killing Stopping container c"));
    EXPECT_TRUE(observe(desired).gone);
}

TEST_F(ProviderTest, What_ignores_TERM_is_killed_after_the_grace) {
    const DesiredPod desired = pod("trap '' TERM; echo ready; sleep 60 & while :; do sleep 0.02; done");
    run(desired);
    ASSERT_TRUE(eventually([&] { return log_of(desired) == "ready\n"; }));
    ASSERT_TRUE(provider().remove(desired.id, seconds(1), context()));
    ASSERT_TRUE(wait_ended(desired));
    EXPECT_EQ(container(desired)["state"]["terminated"]["exitCode"], 137);
    EXPECT_TRUE(living(desired).empty());
}

TEST_F(ProviderTest, Less_grace_shortens_a_stop_under_way) {
    const DesiredPod desired = pod("trap '' TERM; echo ready; while :; do sleep 0.02; done");
    run(desired);
    ASSERT_TRUE(eventually([&] { return log_of(desired) == "ready\n"; }));
    ASSERT_TRUE(provider().remove(desired.id, seconds(3600), context()));
    ASSERT_TRUE(eventually([&] { return observe(desired).removing; }));
    ASSERT_TRUE(provider().remove(desired.id, seconds(0), context()));
    ASSERT_TRUE(wait_ended(desired));
    EXPECT_EQ(container(desired)["state"]["terminated"]["exitCode"], 137);
}

TEST_F(ProviderTest, Children_of_a_stopped_main_process_keep_the_grace) {
    const DesiredPod desired =
        pod("sh -c \"trap 'sleep 0.3; echo saved; exit 0' TERM; echo ready; while :; do sleep 0.02; done\" & "
            "wait");
    run(desired);
    ASSERT_TRUE(eventually([&] { return log_of(desired) == "ready\n"; }));
    ASSERT_TRUE(provider().remove(desired.id, seconds(30), context()));
    ASSERT_TRUE(wait_ended(desired));
    EXPECT_EQ(container(desired)["state"]["terminated"]["exitCode"], 143);
    // The shell may add that its own child was terminated.
    EXPECT_NE(log_of(desired).find("saved\n"), std::string::npos);
}

TEST_F(ProviderTest, What_a_container_leaves_behind_ends_with_it) {
    const DesiredPod desired = pod("setsid sleep 61 & sleep 62 & exit 0");
    run(desired);
    ASSERT_TRUE(wait_ended(desired));
    EXPECT_EQ(phase(desired), "Succeeded");
    EXPECT_TRUE(living(desired).empty());
}

TEST_F(ProviderTest, Remove_of_an_ended_pod_deletes_its_trace_at_once) {
    const DesiredPod desired = pod("exit 0");
    run(desired);
    ASSERT_TRUE(wait_ended(desired));
    ASSERT_TRUE(provider().remove(desired.id, seconds(30), context()));
    EXPECT_FALSE(std::filesystem::exists(paths(desired).dir));
    ASSERT_TRUE(eventually([&] {
        const auto seen = observer().latest(desired.id.uid);
        return seen && seen->gone;
    }));
    EXPECT_EQ(observer().latest(desired.id.uid)->status["phase"], "Succeeded");
}

TEST_F(ProviderTest, Remove_of_what_is_not_there_succeeds_and_says_gone) {
    const DesiredPod desired = pod("exit 0");
    ASSERT_TRUE(provider().remove(desired.id, seconds(30), context()));
    ASSERT_TRUE(eventually([&] {
        const auto seen = observer().latest(desired.id.uid);
        return seen && seen->gone;
    }));
}

TEST_F(ProviderTest, Restarts_count_and_back_off) {
    DesiredPod desired = pod("echo run; exit 1");
    desired.pod["spec"]["restartPolicy"] = "OnFailure";
    run(desired);
    ASSERT_TRUE(eventually([&] { return container(desired)["restartCount"].get<int>() >= 3; }));
    ASSERT_TRUE(eventually([&] {
        return string_at(container(desired), {"state", "waiting", "reason"}) == "CrashLoopBackOff";
    }));
    EXPECT_EQ(container(desired)["lastState"]["terminated"]["exitCode"], 1);
    EXPECT_TRUE(eventually([&] {
        return observer().has_event(desired.id.uid,
                                    "Warning BackOff Back-off restarting failed container c in pod p_ns(");
    }));
    EXPECT_EQ(log_of(desired), "run\n");
    EXPECT_EQ(log_of(desired, [](LogRequest& r) { r.previous = true; }), "run\n");
}

TEST_F(ProviderTest, Init_containers_run_first_and_share_the_working_directory) {
    DesiredPod desired = pod("cat order; echo main");
    desired.pod["spec"]["initContainers"] = {
        {{"name", "i1"}, {"command", {"sh", "-c", "echo one >> order"}}},
        {{"name", "i2"}, {"command", {"sh", "-c", "echo two >> order"}}}};
    run(desired);
    ASSERT_TRUE(wait_ended(desired));
    EXPECT_EQ(log_of(desired), "one\ntwo\nmain\n");
    EXPECT_EQ(container(desired, "i2")["ready"], true);
}

TEST_F(ProviderTest, The_environment_is_the_pods_and_nothing_of_the_agents) {
    ::setenv("AGENT_SECRET", "token", 1);
    DesiredPod desired = pod("env | sort; pwd");
    desired.pod["spec"]["containers"][0]["workingDir"] = "/usr";
    desired.pod["spec"]["containers"][0]["env"] = {{{"name", "A"}, {"value", "1"}},
                                                   {{"name", "B"}, {"value", "$(A)2"}}};
    options().user.home = [](uid_t) { return "/home/x"; };
    restart_provider();
    run(desired);
    ASSERT_TRUE(wait_ended(desired));
    EXPECT_EQ(
        log_of(desired),
        fmt::format(
            "A=1\nB=12\nHOME=/home/x\nHOSTNAME=p\nK8SGPU_CONTAINER=c\nK8SGPU_POD_UID={}\n"
            "K8SGPU_TERMINATION_LOG={}\nPATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n"
            "PWD=/usr\n/usr\n",
            desired.id.uid, paths(desired).termination("c")));
    ::unsetenv("AGENT_SECRET");
}

TEST_F(ProviderTest, A_missing_object_blocks_without_a_trace_until_it_comes) {
    DesiredPod desired = pod("echo $V");
    desired.pod["spec"]["containers"][0]["env"] = {
        {{"name", "V"}, {"valueFrom", {{"configMapKeyRef", {{"name", "m"}, {"key", "k"}}}}}}};
    const auto outcome = provider().ensure(desired, context());
    ASSERT_TRUE(outcome);
    ASSERT_TRUE(std::holds_alternative<Blocked>(*outcome));
    EXPECT_EQ(std::get<Blocked>(*outcome).waiting_message, "configmap \"m\" not found");
    EXPECT_TRUE(observe(desired).gone);
    objects().put(LocalKind::ConfigMap, "m", {{"k", "came"}});
    run(desired);
    ASSERT_TRUE(wait_ended(desired));
    EXPECT_EQ(log_of(desired), "came\n");
}

TEST_F(ProviderTest, Secrets_are_readable_by_the_owner_alone_and_on_no_command_line) {
    objects().put(LocalKind::Secret, "s", {{"TOKEN", base64_encode("very-secret-value")}});
    DesiredPod desired = pod("echo ready; sleep 60");
    desired.pod["spec"]["containers"][0]["envFrom"] = {{{"secretRef", {{"name", "s"}}}}};
    run(desired);
    ASSERT_TRUE(eventually([&] { return log_of(desired) == "ready\n"; }));
    struct stat info {};
    ASSERT_EQ(::stat(paths(desired).intent().c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 0777U, 0600U);
    EXPECT_EQ(read(fmt::format("/proc/{}/cmdline", shim_pid(desired))).find("very-secret"),
              std::string::npos);
    EXPECT_EQ(read(paths(desired).status()).find("very-secret"), std::string::npos);
}

TEST_F(ProviderTest, A_command_that_does_not_exist_is_a_StartError) {
    DesiredPod desired = pod("");
    desired.pod["spec"]["containers"][0]["command"] = {"no-such-command"};
    run(desired);
    ASSERT_TRUE(wait_ended(desired));
    const Json end = container(desired)["state"]["terminated"];
    EXPECT_EQ(end["reason"], "StartError");
    EXPECT_EQ(end["exitCode"], 128);
    EXPECT_EQ(end["message"], "exec: \"no-such-command\": executable file not found in $PATH");
    EXPECT_EQ(phase(desired), "Failed");
}

TEST_F(ProviderTest, Termination_messages_come_from_the_file_or_the_log) {
    DesiredPod desired = pod("printf note > $K8SGPU_TERMINATION_LOG; exit 1");
    Json other = desired.pod["spec"]["containers"][0];
    other["name"] = "d";
    other["command"] = {"sh", "-c", "echo reason >&2; exit 2"};
    other["terminationMessagePolicy"] = "FallbackToLogsOnError";
    desired.pod["spec"]["containers"].push_back(other);
    run(desired);
    ASSERT_TRUE(wait_ended(desired));
    EXPECT_EQ(container(desired)["state"]["terminated"]["message"], "note");
    EXPECT_EQ(container(desired, "d")["state"]["terminated"]["message"], "reason\n");
}

TEST_F(ProviderTest, The_active_deadline_ends_a_pod_and_can_be_shortened_later) {
    DesiredPod desired = pod("echo ready; sleep 60");
    desired.pod["spec"]["activeDeadlineSeconds"] = 3600;
    run(desired);
    ASSERT_TRUE(wait_running(desired));
    desired.pod["spec"]["activeDeadlineSeconds"] = 1;
    ASSERT_TRUE(provider().update(desired, context()));
    ASSERT_TRUE(wait_ended(desired));
    EXPECT_EQ(observe(desired).status["reason"], "DeadlineExceeded");
    EXPECT_EQ(phase(desired), "Failed");
}

TEST_F(ProviderTest, GPUs_are_held_by_one_pod_at_a_time) {
    options().capacity["nvidia.com/gpu"] = "2";
    restart_provider();
    const auto gpu_pod = [this](const char* count) {
        DesiredPod desired = pod("echo $NVIDIA_VISIBLE_DEVICES/$CUDA_VISIBLE_DEVICES; sleep 60");
        if (count != nullptr)
            desired.pod["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] = count;
        return desired;
    };
    const DesiredPod none = gpu_pod(nullptr), first = gpu_pod("1"), second = gpu_pod("1"),
                     third = gpu_pod("1");
    run(none);
    run(first);
    run(second);
    EXPECT_TRUE(eventually([&] { return log_of(none) == "void/\n"; }));
    EXPECT_TRUE(eventually([&] { return log_of(first) == "0/0\n"; }));
    EXPECT_TRUE(eventually([&] { return log_of(second) == "1/1\n"; }));
    const auto refused = provider().ensure(third, context());
    ASSERT_TRUE(refused);
    ASSERT_TRUE(std::holds_alternative<Refused>(*refused));
    EXPECT_EQ(
        std::get<Refused>(*refused).message,
        "Allocate failed due to requested number of devices unavailable for nvidia.com/gpu. Requested: 1, "
        "Available: 0, which is unexpected");
    ASSERT_TRUE(provider().remove(first.id, seconds(0), context()));
    ASSERT_TRUE(wait_ended(first));
    run(third);
    EXPECT_TRUE(eventually([&] { return log_of(third) == "0/0\n"; }));
}

TEST_F(ProviderTest, Capacity_is_the_hosts_with_the_operators_figures_over_it) {
    options().capacity = {{"cpu", "3"}, {"nvidia.com/gpu", "2"}};
    restart_provider();
    const auto capacity = provider().capacity(context());
    ASSERT_TRUE(capacity);
    EXPECT_EQ(capacity->at("cpu"), "3");
    EXPECT_EQ(capacity->at("nvidia.com/gpu"), "2");
    EXPECT_EQ(capacity->at("pods"), "110");
    for (const char* name : {"memory", "ephemeral-storage"}) {
        EXPECT_EQ(capacity->at(name).substr(capacity->at(name).size() - 2), "Ki");
        EXPECT_GT(std::stoll(capacity->at(name)), 1024) << name;
    }
}

TEST_F(ProviderTest, A_state_directory_that_others_may_write_stops_the_start) {
    const std::string bad = state_ + "/bad";
    std::filesystem::create_directory(bad);
    std::filesystem::permissions(bad, std::filesystem::perms::all);
    ProcessProviderOptions other = options();
    other.state_directory = bad;
    ProcessProvider strange(other, clock_, objects());
    const auto started = strange.start(observer());
    ASSERT_FALSE(started);
    EXPECT_EQ(started.error().kind, ErrorKind::Invalid);
    EXPECT_NE(started.error().message.find("writable by nobody else"), std::string::npos);
}

TEST_F(ProviderTest, An_unsafe_UID_is_refused_and_touches_no_file) {
    DesiredPod desired = pod("exit 0");
    desired.id.uid = "../../etc";
    const auto outcome = provider().ensure(desired, context());
    ASSERT_TRUE(outcome);
    EXPECT_TRUE(std::holds_alternative<Refused>(*outcome));
    EXPECT_TRUE(provider().remove(desired.id, seconds(0), context()));
}

}  // namespace
}  // namespace k8sgpu::providers::process
