#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>

#include "common/thread.h"
#include "fixture.h"
#include "providers/process/attach_server.h"
#include "test_io.h"

namespace k8sgpu::providers::process {
namespace {

// One client of attach, on a thread of its own until it is joined.
class Client {
  public:
    void start(ProcessProvider& provider, const DesiredPod& desired, const CallContext& ctx) {
        ExecRequest request;
        request.pod = desired.id;
        request.container = "c";
        thread_ = Thread("client", [this, &provider, request, ctx](std::stop_token stop) {
            result = provider.attach(request, io, ctx.with_stop(stop));
            done = true;
        });
    }
    bool prints(const std::string& text) {
        return eventually([&] { return io.out.written().find(text) != std::string::npos; });
    }
    void leave() { thread_.stop(); }
    void wait() { thread_.join(); }

    TestIo io;
    Result<void> result = fail(ErrorKind::Internal, "still attached");
    std::atomic<bool> done = false;

  private:
    Thread thread_;
};

class AttachTest : public ProviderTest {
  protected:
    // Runs `script` with these fields of the container ("stdin", "stdinOnce", "tty").
    DesiredPod start(const std::string& script, const std::vector<std::string>& fields) {
        DesiredPod desired = pod(script);
        for (const std::string& field : fields) desired.pod["spec"]["containers"][0][field] = true;
        run(desired);
        EXPECT_TRUE(wait_running(desired));
        return desired;
    }
    void attach(Client& client, const DesiredPod& desired) { client.start(provider(), desired, context()); }
    static std::size_t descriptors(const std::string& process) {
        const std::filesystem::directory_iterator all("/proc/" + process + "/fd");
        return static_cast<std::size_t>(std::distance(begin(all), end(all)));
    }
};

TEST_F(AttachTest, Input_reaches_the_process_and_its_output_comes_back_until_it_ends) {
    const DesiredPod desired = start("read a; echo got $a; echo oops >&2; exit 3", {"stdin"});
    Client client;
    client.io.with_stdin = true;
    attach(client, desired);
    client.io.in.send("hello\n");
    client.wait();
    EXPECT_TRUE(client.result) << client.result.error().message;
    EXPECT_EQ(client.io.out.written(), "got hello\n");
    EXPECT_EQ(client.io.err.written(), "oops\n");
    ASSERT_TRUE(wait_ended(desired));
    EXPECT_EQ(container(desired)["state"]["terminated"]["exitCode"], 3);
    EXPECT_EQ(log_of(desired), "got hello\noops\n");
}

TEST_F(AttachTest, The_end_of_the_only_session_is_the_end_of_input_and_output_goes_on) {
    const DesiredPod desired = start("sort; echo sorted", {"stdin", "stdinOnce"});
    Client client;
    client.io.with_stdin = true;
    client.io.in.send("b\na\n").end();
    attach(client, desired);
    client.wait();
    EXPECT_TRUE(client.result);
    EXPECT_EQ(client.io.out.written(), "a\nb\nsorted\n");
}

TEST_F(AttachTest, A_client_of_the_only_session_that_leaves_ends_the_input) {
    const DesiredPod desired = start("cat; echo over", {"stdin", "stdinOnce"});
    Client watcher, client;
    attach(watcher, desired);
    client.io.with_stdin = true;
    attach(client, desired);
    client.io.in.send("x\n");
    ASSERT_TRUE(client.prints("x\n"));
    EXPECT_EQ(phase(desired), "Running");
    client.leave();
    EXPECT_EQ(client.result.error().kind, ErrorKind::Cancelled);
    watcher.wait();
    EXPECT_NE(watcher.io.out.written().find("over\n"), std::string::npos);
    EXPECT_TRUE(wait_ended(desired));
}

TEST_F(AttachTest, Without_stdinOnce_the_input_stays_open_for_the_next_session) {
    const DesiredPod desired = start("cat; echo over", {"stdin"});
    for (const char* text : {"one\n", "two\n"}) {
        Client client;
        client.io.with_stdin = true;
        attach(client, desired);
        client.io.in.send(text);
        ASSERT_TRUE(client.prints(text));
        client.io.in.end();
        client.wait();  // the end of its input is the end of the session
        EXPECT_TRUE(client.result);
    }
    EXPECT_EQ(phase(desired), "Running");
    EXPECT_EQ(log_of(desired), "one\ntwo\n");
}

TEST_F(AttachTest, A_container_without_stdin_reads_nothing_and_can_be_watched) {
    const DesiredPod desired = start("cat; while [ ! -e go ]; do sleep 0.02; done; echo going", {});
    Client client;
    client.io.with_stdin = true;
    client.io.in.send("ignored");
    attach(client, desired);
    ASSERT_TRUE(eventually([&] { return client.io.in.taken(); }));
    std::ofstream(paths(desired).work() + "/go");
    client.wait();
    EXPECT_TRUE(client.result);
    EXPECT_EQ(client.io.out.written(), "going\n");
}

TEST_F(AttachTest, Every_session_sees_the_output) {
    const DesiredPod desired = start("read a; echo $a", {"stdin"});
    Client first, second;
    attach(first, desired);
    second.io.with_stdin = true;
    attach(second, desired);
    // Both are known to the shim once it has taken what they said.
    ASSERT_TRUE(eventually([&] { return descriptors(std::to_string(shim_pid(desired))) >= 2; }));
    clock_.sleep_until(clock_.now() + Duration(200), {});
    second.io.in.send("both\n");
    first.wait();
    second.wait();
    EXPECT_EQ(first.io.out.written(), "both\n");
    EXPECT_EQ(second.io.out.written(), "both\n");
}

TEST_F(AttachTest, A_terminal_is_one_with_the_size_that_the_client_has) {
    const DesiredPod desired = start(
        "tty -s && echo yes; while [ \"$(stty size)\" != '43 132' ]; do sleep 0.02; done; stty size; echo "
        "$TERM; "
        "echo err >&2; read a; echo got $a",
        {"stdin", "tty"});
    Client client;
    client.io.with_stdin = true;
    client.io.sizes = {{80, 24}, {132, 43}};
    attach(client, desired);
    ASSERT_TRUE(client.prints("43 132\r\nxterm\r\nerr\r\n"));
    client.io.in.send("typed\n");
    client.wait();
    EXPECT_TRUE(client.result);
    EXPECT_EQ(client.io.err.written(), "");
    EXPECT_EQ(log_of(desired), "yes\r\n43 132\r\nxterm\r\nerr\r\ntyped\r\ngot typed\r\n");
}

TEST_F(AttachTest, Control_C_typed_into_the_terminal_interrupts_the_process) {
    const DesiredPod desired = start("echo go; exec sleep 60", {"stdin", "tty"});
    Client client;
    client.io.with_stdin = true;
    attach(client, desired);
    ASSERT_TRUE(eventually([&] { return log_of(desired) == "go\r\n"; }));
    client.io.in.send("\x03");
    client.wait();
    EXPECT_TRUE(client.result);
    ASSERT_TRUE(wait_ended(desired));
    EXPECT_EQ(container(desired)["state"]["terminated"]["exitCode"], 130);
}

TEST_F(AttachTest, All_output_of_a_terminal_is_in_the_log) {
    const DesiredPod desired = start("i=0; while [ $i -lt 5000 ]; do echo $i; i=$((i+1)); done", {"tty"});
    ASSERT_TRUE(wait_ended(desired));
    const std::string log = log_of(desired);
    EXPECT_EQ(log.substr(0, 3), "0\r\n");
    EXPECT_EQ(log.substr(log.size() - 6), "4999\r\n");
}

TEST_F(AttachTest, Megabytes_pass_both_ways_unchanged) {
    const DesiredPod desired = start("cat", {"stdin", "stdinOnce"});
    std::string bytes;
    for (unsigned i = 0; bytes.size() < (4U << 20U); ++i) bytes += fmt::format("{:x}\n", i * 7919);
    Client client;
    client.io.with_stdin = true;
    client.io.in.send(bytes).end();
    attach(client, desired);
    client.wait();
    EXPECT_TRUE(client.result);
    EXPECT_EQ(client.io.out.written(), bytes);
}

TEST_F(AttachTest, A_client_that_takes_nothing_holds_up_neither_the_process_nor_its_log) {
    const DesiredPod desired =
        start("read a; head -c 30000000 /dev/zero | tr '\\0' x; echo; echo done; touch finished", {"stdin"});
    Client client;
    client.io.with_stdin = true;
    client.io.out.stick(true);
    attach(client, desired);
    client.io.in.send("go\n");
    ASSERT_TRUE(eventually([&] { return std::filesystem::exists(paths(desired).work() + "/finished"); }));
    ASSERT_TRUE(wait_ended(desired));
    EXPECT_EQ(log_of(desired, [](LogRequest& r) { r.tail_lines = 1; }), "done\n");
    EXPECT_FALSE(client.done);
    client.io.out.stick(false);
    client.wait();
    ASSERT_FALSE(client.result);
    EXPECT_EQ(
        client.result.error().message,
        "output was not taken fast enough: 8 MiB were waiting and the process waits for nobody; all of it "
        "is in the log");
    // What was kept before is delivered all the same.
    EXPECT_GT(client.io.out.written().size(), 7U << 20U);
}

TEST_F(AttachTest, Input_that_the_process_does_not_read_does_not_hold_the_client_that_leaves) {
    const DesiredPod desired = start("echo up; sleep 60", {"stdin"});
    Client client;
    client.io.with_stdin = true;
    client.io.in.send(std::string(1U << 20U, 'x'));
    attach(client, desired);
    ASSERT_TRUE(eventually([&] { return client.io.in.taken_bytes() >= kAttachWindow; }));
    client.leave();
    EXPECT_EQ(client.result.error().kind, ErrorKind::Cancelled);
}

TEST_F(AttachTest, A_new_agent_attaches_to_what_the_old_one_started) {
    const DesiredPod desired = start("read a; echo got $a", {"stdin", "stdinOnce"});
    restart_provider();
    Client client;
    client.io.with_stdin = true;
    attach(client, desired);
    client.io.in.send("again\n");
    client.wait();
    EXPECT_TRUE(client.result);
    EXPECT_EQ(client.io.out.written(), "got again\n");
}

TEST_F(AttachTest, A_restarted_container_has_an_input_of_its_own) {
    DesiredPod desired = pod("read a; echo got $a; exit 1");
    desired.pod["spec"]["restartPolicy"] = "Always";
    desired.pod["spec"]["containers"][0]["stdin"] = desired.pod["spec"]["containers"][0]["stdinOnce"] = true;
    run(desired);
    for (int round = 0; round < 2; ++round) {
        ASSERT_TRUE(eventually([&] {
            return container(desired)["restartCount"] == round &&
                   container(desired)["state"].contains("running");
        }));
        Client client;
        client.io.with_stdin = true;
        client.io.in.send(fmt::format("{}\n", round)).end();
        attach(client, desired);
        client.wait();
        EXPECT_EQ(client.io.out.written(), fmt::format("got {}\n", round));
    }
}

TEST_F(AttachTest, What_does_not_run_cannot_be_attached_to) {
    const DesiredPod desired = pod("true");
    run(desired);
    ASSERT_TRUE(wait_ended(desired));
    Client client;
    attach(client, desired);
    client.wait();
    ASSERT_FALSE(client.result);
    EXPECT_EQ(client.result.error().kind, ErrorKind::NotFound);
}

TEST_F(AttachTest, The_socket_is_for_the_agents_user_alone) {
    const DesiredPod desired = start("sleep 60", {});
    struct stat info {};
    ASSERT_EQ(::stat(paths(desired).attach().c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 07777U, 0700U);
}

TEST_F(AttachTest, A_peer_that_talks_nonsense_is_sent_away_and_the_pod_goes_on) {
    const DesiredPod desired = start("sleep 60", {"stdin"});
    for (const std::string& bytes : {std::string("GET / HTTP/1.1\r\n"), std::string("\x03\0\0\0\0", 5)}) {
        auto fd = attach_connect(paths(desired));
        ASSERT_TRUE(fd) << fd.error().message;
        ASSERT_EQ(::send(fd->get(), bytes.data(), bytes.size(), 0), static_cast<ssize_t>(bytes.size()));
        std::string answer(200, '\0');
        ASSERT_TRUE(eventually([&] { return ::recv(fd->get(), answer.data(), answer.size(), 0) > 0; }));
        EXPECT_EQ(answer[0], '\x14');
        EXPECT_EQ(answer[5], '\x03');
    }
    EXPECT_EQ(phase(desired), "Running");
}

TEST_F(AttachTest, Sessions_leave_no_descriptors_behind_here_or_in_the_shim) {
    const DesiredPod desired = start("cat", {"stdin"});
    const std::string shim = std::to_string(shim_pid(desired));
    const auto here = descriptors("self"), there = descriptors(shim);
    for (int i = 0; i < 20; ++i) {
        Client client;
        client.io.with_stdin = true;
        attach(client, desired);
        client.io.in.send("x\n");
        ASSERT_TRUE(client.prints("x\n"));
        client.leave();
    }
    EXPECT_EQ(descriptors("self"), here);
    EXPECT_TRUE(eventually([&] { return descriptors(shim) == there; })) << descriptors(shim) << " " << there;
}

TEST_F(AttachTest, More_sessions_than_a_pod_serves_are_told_so) {
    const DesiredPod desired = start("sleep 60", {"stdin"});
    std::vector<std::unique_ptr<Client>> clients;
    for (std::size_t i = 0; i < kMaxAttachSessions; ++i) {
        clients.push_back(std::make_unique<Client>());
        clients.back()->io.with_stdin = true;
        clients.back()->io.in.send("x");
        attach(*clients.back(), desired);
        ASSERT_TRUE(eventually([&] { return clients.back()->io.in.taken(); }));
    }
    Client late;
    attach(late, desired);
    late.wait();
    ASSERT_FALSE(late.result);
    EXPECT_EQ(late.result.error().message, "16 sessions are attached to this pod already");
    for (auto& client : clients) client->leave();
}

}  // namespace
}  // namespace k8sgpu::providers::process
