#include "providers/process/machine.h"

#include <gtest/gtest.h>

#include "providers/process/report.h"

namespace k8sgpu::providers::process {
namespace {

using std::chrono::seconds;

PodIntent pod(RestartPolicy policy, std::vector<std::string> init, std::vector<std::string> regular) {
    PodIntent intent;
    intent.id = {"ns", "p", "u"};
    intent.restart = policy;
    for (const auto& [names, is_init] : {std::pair{&init, true}, std::pair{&regular, false}}) {
        for (const std::string& name : *names) {
            ContainerIntent container;
            container.name = name;
            container.init = is_init;
            container.argv = {"true"};
            intent.containers.push_back(container);
        }
    }
    return intent;
}

// Drives a machine and shows what it decides as text: "start a#0", "term b", "kill b".
class Driver {
  public:
    explicit Driver(PodIntent intent) : intent_(std::move(intent)), machine_(intent_, now_) {}

    std::vector<std::string> step() {
        std::vector<std::string> out;
        for (const Action& action : machine_.step(now_)) {
            if (const auto* a = std::get_if<StartContainer>(&action)) {
                out.push_back("start " + name(a->index) + "#" + std::to_string(a->run));
                machine_.started(a->index, now_);
            }
            if (const auto* a = std::get_if<TerminateContainer>(&action))
                out.push_back("term " + name(a->index));
            if (const auto* a = std::get_if<KillContainer>(&action)) out.push_back("kill " + name(a->index));
        }
        return out;
    }
    void exit(const std::string& container, int code) {
        machine_.exited(index(container), code, code == 0 ? "Completed" : "Error", "", now_);
    }
    void pass(Duration by) {
        now_.steady += by;
        now_.wall += by;
    }
    // How long until the machine wants to act by itself.
    std::optional<Duration> wakes_in() const {
        const auto at = machine_.wake_at();
        if (!at) return std::nullopt;
        return std::chrono::duration_cast<Duration>(*at - now_.steady);
    }
    Json status() const { return render_status(machine_); }
    std::string phase() const { return status()["phase"]; }
    Json container(const std::string& container) const {
        for (const char* list : {"initContainerStatuses", "containerStatuses"}) {
            const Json all = status();
            for (const Json& entry : array_at(all, {list})) {
                if (entry["name"] == container) return entry;
            }
        }
        return {};
    }
    Machine& machine() { return machine_; }
    Times now() const { return now_; }

  private:
    std::string name(std::size_t i) const { return intent_.containers[i].name; }
    std::size_t index(const std::string& container) const {
        for (std::size_t i = 0; i < intent_.containers.size(); ++i) {
            if (name(i) == container) return i;
        }
        ADD_FAILURE() << container;
        return 0;
    }

    PodIntent intent_;
    Times now_{SteadyTime(std::chrono::hours(1)), WallTime(seconds(1'700'000'000))};
    Machine machine_;
};

using Steps = std::vector<std::string>;

TEST(Machine, Init_containers_run_in_order_and_then_all_others) {
    Driver pod_driver(pod(RestartPolicy::Never, {"i1", "i2"}, {"b", "a"}));
    EXPECT_EQ(pod_driver.step(), (Steps{"start i1#0"}));
    EXPECT_EQ(pod_driver.step(), Steps{});
    EXPECT_EQ(pod_driver.phase(), "Pending");
    pod_driver.exit("i1", 0);
    EXPECT_EQ(pod_driver.step(), (Steps{"start i2#0"}));
    pod_driver.exit("i2", 0);
    EXPECT_EQ(pod_driver.step(), (Steps{"start b#0", "start a#0"}));
    EXPECT_EQ(pod_driver.phase(), "Running");
    pod_driver.exit("a", 0);
    EXPECT_EQ(pod_driver.step(), Steps{});
    EXPECT_EQ(pod_driver.phase(), "Running");
    pod_driver.exit("b", 0);
    EXPECT_EQ(pod_driver.step(), Steps{});
    EXPECT_TRUE(pod_driver.machine().ended());
    EXPECT_EQ(pod_driver.phase(), "Succeeded");
}

TEST(Machine, A_failed_init_container_of_a_Never_pod_fails_it_before_anything_else_starts) {
    Driver driver(pod(RestartPolicy::Never, {"i"}, {"a"}));
    driver.step();
    driver.exit("i", 3);
    EXPECT_EQ(driver.step(), Steps{});
    EXPECT_TRUE(driver.machine().ended());
    EXPECT_EQ(driver.phase(), "Failed");
    EXPECT_EQ(driver.container("a")["state"], Json::parse(R"({"waiting": {"reason": "PodInitializing"}})"));
}

TEST(Machine, A_failed_init_container_is_retried_under_Always_and_not_after_success) {
    Driver driver(pod(RestartPolicy::Always, {"i"}, {"a"}));
    driver.step();
    driver.exit("i", 1);
    EXPECT_EQ(driver.phase(), "Pending");
    EXPECT_EQ(driver.step(), (Steps{"start i#1"}));
    driver.exit("i", 0);
    EXPECT_EQ(driver.step(), (Steps{"start a#0"}));
    EXPECT_EQ(driver.container("i")["restartCount"], 1);
    EXPECT_EQ(driver.container("i")["ready"], true);
}

struct RestartCase {
    RestartPolicy policy;
    int code;
    bool restarts;
    const char* phase;  // after the exit, of a pod with this one container
};

TEST(Machine, Restarts_follow_the_policy) {
    for (const RestartCase& c : {RestartCase{RestartPolicy::Always, 0, true, "Running"},
                                 RestartCase{RestartPolicy::Always, 1, true, "Running"},
                                 RestartCase{RestartPolicy::OnFailure, 0, false, "Succeeded"},
                                 RestartCase{RestartPolicy::OnFailure, 1, true, "Running"},
                                 RestartCase{RestartPolicy::Never, 0, false, "Succeeded"},
                                 RestartCase{RestartPolicy::Never, 1, false, "Failed"}}) {
        Driver driver(pod(c.policy, {}, {"a"}));
        driver.step();
        driver.exit("a", c.code);
        EXPECT_EQ(driver.step(), c.restarts ? Steps{"start a#1"} : Steps{});
        EXPECT_EQ(driver.machine().ended(), !c.restarts);
        EXPECT_EQ(driver.phase(), c.phase);
    }
}

TEST(Machine, The_first_restart_is_immediate_then_back_off_doubles_to_its_cap) {
    Driver driver(pod(RestartPolicy::Always, {}, {"a"}));
    driver.step();
    driver.pass(seconds(5));
    driver.exit("a", 1);
    EXPECT_EQ(driver.step(), (Steps{"start a#1"}));
    int run = 1;
    for (const int delay : {10, 20, 40, 80, 160, 300, 300}) {
        driver.pass(seconds(1));
        driver.exit("a", 1);
        EXPECT_EQ(driver.step(), Steps{});
        EXPECT_EQ(driver.wakes_in(), Duration(seconds(delay)));
        driver.pass(seconds(delay) - Duration(1));
        EXPECT_EQ(driver.step(), Steps{});
        driver.pass(Duration(1));
        EXPECT_EQ(driver.step(), (Steps{"start a#" + std::to_string(++run)}));
    }
}

TEST(Machine, Ten_quiet_minutes_forget_the_back_off) {
    Driver driver(pod(RestartPolicy::Always, {}, {"a"}));
    driver.step();
    driver.exit("a", 1);
    driver.step();
    driver.exit("a", 1);
    driver.pass(seconds(10));
    EXPECT_EQ(driver.step(), (Steps{"start a#2"}));
    driver.pass(seconds(601));
    driver.exit("a", 1);
    EXPECT_EQ(driver.step(), (Steps{"start a#3"}));
    driver.exit("a", 1);
    driver.step();
    EXPECT_EQ(driver.wakes_in(), Duration(seconds(10)));
}

TEST(Machine, Back_off_is_shown_as_CrashLoopBackOff_with_the_last_end) {
    Driver driver(pod(RestartPolicy::Always, {}, {"a"}));
    driver.step();
    driver.exit("a", 1);
    driver.step();
    driver.exit("a", 7);
    driver.step();
    const Json status = driver.container("a");
    EXPECT_EQ(status["state"], Json::parse(R"j({"waiting": {"reason": "CrashLoopBackOff",
        "message": "back-off 10s restarting failed container=a pod=p_ns(u)"}})j"));
    EXPECT_EQ(status["lastState"]["terminated"]["exitCode"], 7);
    EXPECT_EQ(status["restartCount"], 1);
    EXPECT_EQ(status["ready"], false);
}

TEST(Machine, A_running_container_after_a_restart_shows_the_end_before) {
    Driver driver(pod(RestartPolicy::Always, {}, {"a"}));
    driver.step();
    driver.exit("a", 2);
    driver.step();
    const Json status = driver.container("a");
    EXPECT_EQ(status["state"], Json::parse(R"({"running": {"startedAt": "2023-11-14T22:13:20Z"}})"));
    EXPECT_EQ(status["lastState"], (Json{{"terminated",
                                          {{"exitCode", 2},
                                           {"reason", "Error"},
                                           {"startedAt", "2023-11-14T22:13:20Z"},
                                           {"finishedAt", "2023-11-14T22:13:20Z"},
                                           {"containerID", container_id({"ns", "p", "u"}, "a", 0)}}}}));
    EXPECT_EQ(status["restartCount"], 1);
    EXPECT_EQ(status["containerID"], container_id({"ns", "p", "u"}, "a", 1));
}

TEST(Machine, Stop_terminates_at_once_and_kills_after_the_grace) {
    Driver driver(pod(RestartPolicy::Always, {}, {"a", "b"}));
    driver.step();
    driver.machine().stop(seconds(30), true, driver.now());
    EXPECT_EQ(driver.step(), (Steps{"term a", "term b"}));
    EXPECT_EQ(driver.step(), Steps{});
    EXPECT_EQ(driver.wakes_in(), Duration(seconds(30)));
    driver.exit("a", 0);
    EXPECT_EQ(driver.step(), Steps{});
    EXPECT_EQ(driver.phase(), "Running");
    driver.pass(seconds(30));
    EXPECT_EQ(driver.step(), (Steps{"kill b"}));
    EXPECT_EQ(driver.step(), Steps{});
    EXPECT_FALSE(driver.machine().ended());
    driver.exit("b", 137);
    driver.step();
    EXPECT_TRUE(driver.machine().ended());
    EXPECT_TRUE(driver.machine().removing());
    EXPECT_EQ(driver.phase(), "Failed");
}

TEST(Machine, A_later_order_only_shortens_the_grace) {
    Driver driver(pod(RestartPolicy::Never, {}, {"a"}));
    driver.step();
    driver.machine().stop(seconds(30), true, driver.now());
    driver.step();
    driver.pass(seconds(20));
    driver.machine().stop(seconds(30), true, driver.now());
    EXPECT_EQ(driver.wakes_in(), Duration(seconds(10)));
    driver.machine().stop(seconds(2), true, driver.now());
    EXPECT_EQ(driver.wakes_in(), Duration(seconds(2)));
    driver.machine().stop(seconds(0), true, driver.now());
    EXPECT_EQ(driver.step(), (Steps{"kill a"}));
}

TEST(Machine, No_grace_kills_without_asking) {
    Driver driver(pod(RestartPolicy::Never, {}, {"a"}));
    driver.step();
    driver.machine().stop(seconds(0), true, driver.now());
    EXPECT_EQ(driver.step(), (Steps{"kill a"}));
}

TEST(Machine, Stop_during_back_off_ends_the_pod_at_once_with_the_last_end_shown) {
    Driver driver(pod(RestartPolicy::Always, {}, {"a"}));
    driver.step();
    driver.exit("a", 1);
    driver.step();
    driver.exit("a", 9);
    driver.step();
    driver.machine().stop(seconds(30), true, driver.now());
    EXPECT_EQ(driver.step(), Steps{});
    EXPECT_TRUE(driver.machine().ended());
    EXPECT_EQ(driver.phase(), "Failed");
    EXPECT_EQ(driver.container("a")["state"]["terminated"]["exitCode"], 9);
    EXPECT_EQ(driver.container("a")["lastState"]["terminated"]["exitCode"], 1);
}

TEST(Machine, Stop_before_anything_runs_ends_the_pod_as_Failed) {
    Driver driver(pod(RestartPolicy::Always, {"i"}, {"a"}));
    driver.machine().stop(seconds(30), true, driver.now());
    EXPECT_EQ(driver.step(), Steps{});
    EXPECT_TRUE(driver.machine().ended());
    EXPECT_EQ(driver.phase(), "Failed");
}

TEST(Machine, A_stopped_pod_whose_containers_all_ended_well_succeeded) {
    Driver driver(pod(RestartPolicy::Always, {}, {"a"}));
    driver.step();
    driver.machine().stop(seconds(30), true, driver.now());
    driver.step();
    driver.exit("a", 0);
    EXPECT_EQ(driver.step(), Steps{});
    EXPECT_EQ(driver.phase(), "Succeeded");
}

TEST(Machine, The_active_deadline_ends_the_pod_as_Failed_whatever_the_exit_codes) {
    PodIntent intent = pod(RestartPolicy::Always, {}, {"a"});
    intent.active_deadline = seconds(60);
    intent.grace = seconds(5);
    Driver driver(std::move(intent));
    driver.step();
    EXPECT_EQ(driver.wakes_in(), Duration(seconds(60)));
    driver.pass(seconds(60));
    EXPECT_EQ(driver.step(), (Steps{"term a"}));
    EXPECT_EQ(driver.wakes_in(), Duration(seconds(5)));
    driver.exit("a", 0);
    driver.step();
    EXPECT_EQ(driver.phase(), "Failed");
    EXPECT_EQ(driver.status()["reason"], "DeadlineExceeded");
    EXPECT_EQ(driver.status()["message"], "Pod was active on the node longer than the specified deadline");
    EXPECT_FALSE(driver.machine().removing());
}

TEST(Machine, Graces_and_deadlines_beyond_all_time_do_not_overflow) {
    PodIntent intent = pod(RestartPolicy::Always, {}, {"a"});
    intent.active_deadline = seconds(std::numeric_limits<std::int64_t>::max());
    Driver driver(std::move(intent));
    EXPECT_EQ(driver.step(), (Steps{"start a#0"}));
    driver.machine().stop(seconds(std::numeric_limits<std::int64_t>::max()), true, driver.now());
    EXPECT_EQ(driver.step(), (Steps{"term a"}));
}

TEST(Machine, A_start_that_failed_counts_as_a_run) {
    Driver driver(pod(RestartPolicy::Never, {}, {"a"}));
    driver.machine().step(driver.now());
    driver.machine().exited(0, 128, "StartError", "exec: \"x\": executable file not found in $PATH",
                            driver.now());
    driver.step();
    EXPECT_EQ(driver.phase(), "Failed");
    EXPECT_EQ(driver.container("a")["state"]["terminated"]["reason"], "StartError");
}

TEST(RenderStatus, Of_a_new_pod) {
    PodIntent intent = pod(RestartPolicy::Always, {}, {"b", "a"});
    intent.containers[0].image = "img:1";
    intent.pod_ips = {"10.0.0.7", "fd00::7"};
    const Driver driver(std::move(intent));
    EXPECT_EQ(driver.status(), Json::parse(R"({"phase": "Pending", "startTime": "2023-11-14T22:13:20Z",
        "podIP": "10.0.0.7", "podIPs": [{"ip": "10.0.0.7"}, {"ip": "fd00::7"}],
        "conditions": [{"type": "PodReadyToStartContainers", "status": "True"}],
        "containerStatuses": [
          {"name": "a", "image": "", "imageID": "", "restartCount": 0, "ready": false, "started": false,
           "state": {"waiting": {"reason": "ContainerCreating"}}, "lastState": {}},
          {"name": "b", "image": "img:1", "imageID": "", "restartCount": 0, "ready": false, "started": false,
           "state": {"waiting": {"reason": "ContainerCreating"}}, "lastState": {}}]})"));
}

TEST(LostStatus, Keeps_known_ends_and_marks_all_others_unknown) {
    const PodIntent intent = pod(RestartPolicy::Always, {"i"}, {"back", "done", "new", "run"});
    const Json last = Json::parse(R"({"phase": "Running", "startTime": "2023-11-14T22:13:20Z",
        "initContainerStatuses": [{"name": "i", "ready": true, "state": {"terminated": {"exitCode": 0}}}],
        "containerStatuses": [
          {"name": "back", "state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": {"terminated": {"exitCode": 4}}},
          {"name": "done", "state": {"terminated": {"exitCode": 0}}, "lastState": {}},
          {"name": "run", "containerID": "process://x", "ready": true, "started": true, "restartCount": 2,
           "state": {"running": {"startedAt": "2023-11-14T22:13:21Z"}}, "lastState": {"terminated": {"exitCode": 1}}}]})");
    const Json status = lost_status(last, intent, "SupervisorLost", "why", WallTime(seconds(1'700'000'100)));
    EXPECT_EQ(status["phase"], "Failed");
    EXPECT_EQ(status["reason"], "SupervisorLost");
    EXPECT_EQ(status["startTime"], "2023-11-14T22:13:20Z");
    EXPECT_EQ(status["initContainerStatuses"][0]["state"]["terminated"]["exitCode"], 0);
    const Json& list = status["containerStatuses"];
    EXPECT_EQ(list[0]["state"], Json::parse(R"({"terminated": {"exitCode": 4}})"));
    EXPECT_EQ(list[1]["state"], Json::parse(R"({"terminated": {"exitCode": 0}})"));
    EXPECT_EQ(list[2]["state"]["terminated"]["reason"], "ContainerStatusUnknown");
    EXPECT_EQ(list[3]["state"],
              Json::parse(R"({"terminated": {"exitCode": 137, "reason": "ContainerStatusUnknown",
        "message": "The container could not be located when the pod was terminated",
        "startedAt": "2023-11-14T22:13:21Z", "finishedAt": "2023-11-14T22:15:00Z", "containerID": "process://x"}})"));
    EXPECT_EQ(list[3]["ready"], false);
    EXPECT_EQ(list[3]["restartCount"], 2);
    EXPECT_EQ(list[3]["lastState"]["terminated"]["exitCode"], 1);
}

TEST(LostStatus, Without_any_last_status_knows_only_that_it_failed) {
    const Json status =
        lost_status(Json(), pod(RestartPolicy::Never, {}, {"a"}), "r", "m", WallTime(seconds(0)));
    EXPECT_EQ(status["phase"], "Failed");
    EXPECT_EQ(status["containerStatuses"][0]["state"]["terminated"]["exitCode"], 137);
}

TEST(GoDuration, Is_written_as_Go_does) {
    const std::pair<std::int64_t, const char*> cases[] = {
        {0, "0s"},         {250, "250ms"},  {10'000, "10s"},       {80'000, "1m20s"},
        {300'000, "5m0s"}, {1'500, "1.5s"}, {3'600'000, "1h0m0s"}, {61'001, "1m1.001s"}};
    for (const auto& [ms, text] : cases) EXPECT_EQ(go_duration(Duration(ms)), text);
}

TEST(ContainerId, Differs_between_runs_and_looks_like_one) {
    const PodId id{"ns", "p", "u"};
    EXPECT_NE(container_id(id, "a", 0), container_id(id, "a", 1));
    EXPECT_EQ(container_id(id, "a", 0).rfind("process://", 0), 0U);
    EXPECT_EQ(container_id(id, "a", 0).size(), 10U + 64U);
}

}  // namespace
}  // namespace k8sgpu::providers::process
