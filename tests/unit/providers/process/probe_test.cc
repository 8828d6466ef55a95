#include <fmt/format.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <fstream>

#include "common/thread.h"
#include "fixture.h"
#include "net/fd.h"
#include "providers/process/handler_child.h"

namespace k8sgpu::providers::process {
namespace {

// Answers one connection after the other with this.
class Server {
  public:
    explicit Server(std::string answer) : answer_(std::move(answer)) {
        sockaddr_in at{};
        at.sin_family = AF_INET;
        at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        socklen_t size = sizeof at;
        listener_ = net::Fd(::socket(AF_INET, SOCK_STREAM, 0));
        ::bind(listener_.get(), reinterpret_cast<sockaddr*>(&at), size);
        ::listen(listener_.get(), 10);
        ::getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&at), &size);
        port = ntohs(at.sin_port);
        thread_ = Thread("server", [this](std::stop_token) {
            while (true) {
                const net::Fd peer(::accept(listener_.get(), nullptr, nullptr));
                if (!peer.valid()) return;
                char chunk[4096];
                const ssize_t got = ::recv(peer.get(), chunk, sizeof chunk, 0);
                heard.lock()->assign(chunk, got > 0 ? static_cast<std::size_t>(got) : 0);
                if (!answer_.empty()) ::send(peer.get(), answer_.data(), answer_.size(), MSG_NOSIGNAL);
                if (answer_.empty()) ::recv(peer.get(), chunk, sizeof chunk, 0);
            }
        });
    }
    ~Server() {
        ::shutdown(listener_.get(), SHUT_RDWR);
        thread_.join();
    }
    std::uint16_t port = 0;
    Guarded<std::string> heard;

  private:
    std::string answer_;
    net::Fd listener_;
    Thread thread_;
};

HandlerResult attempt(const char* action, std::uint16_t port, Duration timeout = Duration(5000)) {
    Json json = Json::parse(action);
    for (const char* kind : {"httpGet", "tcpSocket"}) {
        if (json.contains(kind)) json[kind]["port"] = port;
    }
    auto handler = handler_of(json, Json::object());
    EXPECT_TRUE(handler);
    if (handler->host.empty()) handler->host = "127.0.0.1";
    SpawnRequest command;
    command.environment = {"PATH=/usr/bin:/bin", "A=1"};
    return run_handler(*handler, command, timeout);
}

TEST(Handler, A_command_succeeds_with_status_0_and_shows_its_output) {
    EXPECT_EQ(attempt(R"({"exec": {"command": ["true"]}})", 0).outcome, HandlerOutcome::Success);
    HandlerResult result =
        attempt(R"({"exec": {"command": ["sh", "-c", "echo $A; echo no >&2; exit 1"]}})", 0);
    EXPECT_EQ(result.outcome, HandlerOutcome::Failure);
    EXPECT_EQ(result.text, "1\nno\n");
    result = attempt(R"({"exec": {"command": ["sh", "-c", "sleep 60"]}})", 0, Duration(1000));
    EXPECT_EQ(result.outcome, HandlerOutcome::Failure);
    EXPECT_EQ(result.text, "command \"sh -c sleep 60\" timed out after 1s");
    EXPECT_EQ(attempt(R"({"exec": {"command": ["no-such-command"]}})", 0).outcome, HandlerOutcome::Failure);
    EXPECT_EQ(attempt(R"({"exec": {"command": ["sh", "-c", "yes | head -c 99999"]}})", 0).text.size(),
              10240U);
}

TEST(Handler, HTTP_succeeds_below_400) {
    for (const auto& [answer, expected] :
         {std::pair{"HTTP/1.1 200 OK\r\n\r\nbody", ""}, std::pair{"HTTP/1.0 399 X\r\n\r\n", ""},
          std::pair{"HTTP/1.1 400 No\r\n\r\n", "HTTP probe failed with statuscode: 400"},
          std::pair{"HTTP/1.1 500 No\r\n\r\n", "HTTP probe failed with statuscode: 500"},
          std::pair{"hello\r\n", "malformed HTTP response"}}) {
        Server server(answer);
        const auto result = attempt(
            R"({"httpGet": {"path": "/health", "httpHeaders": [{"name": "Host", "value": "me"}, {"name": "X", "value": "y"}]}})",
            server.port);
        EXPECT_EQ(result.text, expected);
        EXPECT_EQ(result.outcome == HandlerOutcome::Success, std::string(expected).empty());
        EXPECT_EQ(
            *server.heard.lock(),
            "GET /health HTTP/1.1\r\nHost: me\r\nX: y\r\nUser-Agent: kube-probe/k8sgpu\r\nAccept: */*\r\n"
            "Connection: close\r\n\r\n");
    }
}

TEST(Handler, A_server_that_does_not_answer_is_a_failure_in_time) {
    Server silent("");
    const auto result = attempt(R"({"httpGet": {}})", silent.port, Duration(300));
    EXPECT_EQ(result.text,
              fmt::format("Get \"http://127.0.0.1:{}/\": context deadline exceeded (Client.Timeout "
                          "exceeded while awaiting headers)",
                          silent.port));
}

TEST(Handler, TCP_succeeds_when_somebody_listens) {
    std::uint16_t port = 0;
    {
        Server server("x");
        port = server.port;
        EXPECT_EQ(attempt(R"({"tcpSocket": {}})", port).outcome, HandlerOutcome::Success);
    }
    const auto result = attempt(R"({"tcpSocket": {}})", port);
    EXPECT_EQ(result.outcome, HandlerOutcome::Failure);
    EXPECT_EQ(result.text, fmt::format("dial tcp 127.0.0.1:{}: connect: connection refused", port));
}

class ProbeTest : public ProviderTest {
  protected:
    static Json exec(const std::string& script) { return {{"exec", {{"command", {"sh", "-c", script}}}}}; }
    static Json probe(const std::string& script, int failures = 1) {
        Json json = exec(script);
        json["periodSeconds"] = 1;
        json["failureThreshold"] = failures;
        return json;
    }
    static Json& part(DesiredPod& desired, const char* name) {
        return desired.pod["spec"]["containers"][0][name];
    }
    void make(const DesiredPod& desired, const char* file) const {
        std::ofstream(paths(desired).work() + "/" + file);
    }
    bool is(const DesiredPod& desired, const char* field, bool value) {
        return eventually([&] { return container(desired)[field] == value; });
    }
};

TEST_F(ProbeTest, Readiness_comes_and_goes_with_the_probe_even_while_no_agent_runs) {
    DesiredPod desired = pod("sleep 60");
    part(desired, "readinessProbe") = probe("test -e ready");
    run(desired);
    ASSERT_TRUE(wait_running(desired));
    EXPECT_TRUE(eventually(
        [&] { return observer().has_event(desired.id.uid, "Warning Unhealthy Readiness probe failed: "); }));
    EXPECT_EQ(container(desired)["ready"], false);
    EXPECT_EQ(container(desired)["started"], true);
    make(desired, "ready");
    EXPECT_TRUE(is(desired, "ready", true));
    std::filesystem::remove(paths(desired).work() + "/ready");
    restart_provider();
    EXPECT_TRUE(is(desired, "ready", false));
    EXPECT_EQ(container(desired)["restartCount"], 0);
}

TEST_F(ProbeTest, A_failed_liveness_probe_ends_the_run_and_the_policy_decides) {
    DesiredPod desired = pod("rm -f dead; trap 'exit 4' TERM; touch up; while :; do sleep 0.02; done");
    desired.pod["spec"]["restartPolicy"] = "Always";
    part(desired, "livenessProbe") = probe("test ! -e dead");
    run(desired);
    ASSERT_TRUE(eventually([&] { return std::filesystem::exists(paths(desired).work() + "/up"); }));
    make(desired, "dead");
    ASSERT_TRUE(eventually([&] { return container(desired)["restartCount"] == 1; }));
    EXPECT_TRUE(observer().has_event(desired.id.uid,
                                     "Normal Killing Container c failed liveness probe, will be restarted"));
    ASSERT_TRUE(eventually([&] { return container(desired)["lastState"].contains("terminated"); }));
    EXPECT_EQ(container(desired)["lastState"]["terminated"]["exitCode"], 4);
    EXPECT_TRUE(is(desired, "ready", true));
}

TEST_F(ProbeTest, A_process_that_ignores_the_end_is_killed_after_the_probes_grace) {
    DesiredPod desired = pod("trap '' TERM; while :; do sleep 0.02; done");
    part(desired, "livenessProbe") = probe("false");
    part(desired, "livenessProbe")["terminationGracePeriodSeconds"] = 1;
    run(desired);
    ASSERT_TRUE(wait_ended(desired));
    EXPECT_EQ(container(desired)["state"]["terminated"]["exitCode"], 137);
}

TEST_F(ProbeTest, Until_the_startup_probe_succeeds_a_container_is_not_started) {
    DesiredPod desired = pod("sleep 60");
    part(desired, "startupProbe") = probe("test -e up", 60);
    part(desired, "livenessProbe") = probe("test -e up");
    run(desired);
    ASSERT_TRUE(wait_running(desired));
    EXPECT_TRUE(eventually([&] { return observer().has_event(desired.id.uid, "Startup probe failed"); }));
    EXPECT_EQ(container(desired)["started"], false);
    EXPECT_EQ(container(desired)["ready"], false);
    make(desired, "up");
    EXPECT_TRUE(is(desired, "started", true));
    EXPECT_TRUE(is(desired, "ready", true));
}

TEST_F(ProbeTest, The_next_container_waits_for_the_hook_of_the_one_before) {
    DesiredPod desired = pod("while [ ! -e second ]; do sleep 0.02; done");
    part(desired, "lifecycle") = {{"postStart", exec("sleep 0.5; echo hook >> order")}};
    desired.pod["spec"]["containers"].push_back(
        {{"name", "d"}, {"image", "i"}, {"command", {"sh", "-c", "echo second >> order; touch second"}}});
    run(desired);
    ASSERT_TRUE(wait_ended(desired));
    EXPECT_EQ(read(paths(desired).work() + "/order"), "hook\nsecond\n");
}

TEST_F(ProbeTest, A_failed_postStart_ends_the_container) {
    DesiredPod desired = pod("trap 'exit 0' TERM; while :; do sleep 0.02; done");
    part(desired, "lifecycle") = {{"postStart", exec("exit 1")}};
    run(desired);
    ASSERT_TRUE(wait_ended(desired));
    EXPECT_TRUE(
        eventually([&] { return observer().has_event(desired.id.uid, "Warning FailedPostStartHook"); }));
}

TEST_F(ProbeTest, PreStop_comes_before_the_signal_and_inside_the_grace) {
    DesiredPod desired = pod("trap 'echo term >> order; exit 0' TERM; while :; do sleep 0.02; done");
    part(desired, "lifecycle") = {{"preStop", exec("sleep 0.3; echo hook >> order")}};
    DesiredPod slow = pod("trap '' TERM; while :; do sleep 0.02; done");
    part(slow, "lifecycle") = {{"preStop", {{"sleep", {{"seconds", 60}}}}}};
    for (const DesiredPod& one : {desired, slow}) {
        run(one);
        ASSERT_TRUE(wait_running(one));
        ASSERT_TRUE(
            provider().remove(one.id, std::chrono::seconds(one.id.uid == slow.id.uid ? 1 : 20), context()));
    }
    ASSERT_TRUE(wait_ended(desired));
    EXPECT_EQ(read(paths(desired).work() + "/order"), "hook\nterm\n");
    ASSERT_TRUE(wait_ended(slow));
    EXPECT_EQ(container(slow)["state"]["terminated"]["exitCode"], 137);
}

TEST_F(ProviderTest, A_changed_image_is_answered_by_an_Event_once) {
    DesiredPod desired = pod("sleep 60");
    run(desired);
    ASSERT_TRUE(wait_running(desired));
    desired.pod["spec"]["containers"][0]["image"] = "other:2";
    ASSERT_TRUE(provider().update(desired, context()));
    EXPECT_TRUE(eventually([&] {
        return observer().has_event(desired.id.uid,
                                    "Warning ImageChangeIgnored Container c: image \"other:2\"");
    }));
    EXPECT_EQ(container(desired)["restartCount"], 0);
}

}  // namespace
}  // namespace k8sgpu::providers::process
