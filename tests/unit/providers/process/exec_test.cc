#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "common/thread.h"
#include "fixture.h"
#include "test_io.h"

namespace k8sgpu::providers::process {
namespace {

class ExecTest : public ProviderTest {
  protected:
    void SetUp() override {
        ProviderTest::SetUp();
        desired_ = pod("echo ready; sleep 60");
        desired_.pod["spec"]["containers"][0]["env"] = {{{"name", "A"}, {"value", "1"}}};
        run(desired_);
        ASSERT_TRUE(wait_running(desired_));
    }
    Result<ExitStatus> exec(const std::vector<std::string>& command, bool tty = false) {
        return exec_in("c", command, tty, context());
    }
    Result<ExitStatus> exec_in(const std::string& name, const std::vector<std::string>& command, bool tty,
                               const CallContext& ctx) {
        ExecRequest request;
        request.pod = desired_.id;
        request.container = name;
        request.command = command;
        request.tty = tty;
        return provider().exec(request, io_, ctx);
    }
    Result<ExitStatus> sh(const std::string& script, bool tty = false) {
        return exec({"sh", "-c", script}, tty);
    }

    DesiredPod desired_;
    TestIo io_;
};

TEST_F(ExecTest, Exit_codes_are_the_commands) {
    for (const auto& [script, code] :
         {std::pair{"exit 0", 0}, std::pair{"exit 3", 3}, std::pair{"kill -9 $$", 137},
          std::pair{"kill -TERM $$", 143}, std::pair{"exit 255", 255}}) {
        const auto exit = sh(script);
        ASSERT_TRUE(exit) << exit.error().message;
        EXPECT_EQ(exit->code, code) << script;
    }
}

TEST_F(ExecTest, Output_goes_to_its_own_streams_in_full) {
    const auto exit = sh("echo out; echo err >&2; i=0; while [ $i -lt 20000 ]; do echo $i; i=$((i+1)); done");
    ASSERT_TRUE(exit);
    EXPECT_EQ(io_.err.written(), "err\n");
    EXPECT_EQ(io_.out.written().substr(0, 6), "out\n0\n");
    EXPECT_EQ(io_.out.written().substr(io_.out.written().size() - 6), "19999\n");
}

TEST_F(ExecTest, The_command_has_the_containers_environment_and_directory) {
    const auto exit = sh("echo $A $HOSTNAME; pwd");
    ASSERT_TRUE(exit);
    EXPECT_EQ(io_.out.written(), "1 p\n" + paths(desired_).work() + "\n");
}

TEST_F(ExecTest, The_end_of_stdin_reaches_the_command_which_goes_on) {
    io_.with_stdin = true;
    io_.in.send("b\na\n").end();
    const auto exit = sh("cat | sort; echo done");
    ASSERT_TRUE(exit);
    EXPECT_EQ(exit->code, 0);
    EXPECT_EQ(io_.out.written(), "a\nb\ndone\n");
}

TEST_F(ExecTest, Without_stdin_the_command_reads_nothing) {
    const auto exit = exec({"cat"});
    ASSERT_TRUE(exit);
    EXPECT_EQ(exit->code, 0);
    EXPECT_EQ(io_.out.written(), "");
}

TEST_F(ExecTest, A_megabyte_through_cat_comes_back_unchanged) {
    io_.with_stdin = true;
    std::string bytes;
    for (int i = 0; bytes.size() < (1U << 20U); ++i) bytes += fmt::format("{:x}\n", i * 7919);
    io_.in.send(bytes).end();
    const auto exit = exec({"cat"});
    ASSERT_TRUE(exit);
    EXPECT_EQ(io_.out.written(), bytes);
}

TEST_F(ExecTest, A_command_that_ends_before_its_input_does_not_wait_for_it) {
    io_.with_stdin = true;
    io_.in.send(std::string(1U << 20U, 'x'));
    const auto exit = sh("exit 4");
    ASSERT_TRUE(exit);
    EXPECT_EQ(exit->code, 4);
}

TEST_F(ExecTest, A_background_child_that_keeps_the_output_open_does_not_hold_the_session) {
    const auto exit = sh("sleep 50 & echo started");
    ASSERT_TRUE(exit);
    EXPECT_EQ(io_.out.written(), "started\n");
}

TEST_F(ExecTest, A_background_child_that_never_stops_writing_does_not_hold_the_session) {
    const auto exit = sh("yes & exit 5");
    ASSERT_TRUE(exit);
    EXPECT_EQ(exit->code, 5);
}

TEST_F(ExecTest, A_terminal_is_one_with_the_size_that_the_client_has) {
    io_.with_stdin = true;
    io_.sizes = {{80, 24}, {132, 43}};
    const auto exit =
        sh("tty -s && echo yes; while [ \"$(stty size)\" != '43 132' ]; do sleep 0.02; done; stty size; "
           "echo $TERM; echo err >&2; exit 6",
           /*tty=*/true);
    ASSERT_TRUE(exit) << exit.error().message;
    EXPECT_EQ(exit->code, 6);
    EXPECT_EQ(io_.out.written(), "yes\r\n43 132\r\nxterm\r\nerr\r\n");
    EXPECT_EQ(io_.err.written(), "");
}

TEST_F(ExecTest, A_terminal_turns_control_C_into_an_interrupt) {
    io_.with_stdin = true;
    Result<ExitStatus> exit = fail(ErrorKind::Internal, "still running");
    {
        Thread session("session",
                       [&](std::stop_token) { exit = sh("echo go; exec sleep 60", /*tty=*/true); });
        ASSERT_TRUE(eventually([&] { return io_.out.written() == "go\r\n"; }));
        io_.in.send("\x03");
    }
    ASSERT_TRUE(exit) << exit.error().message;
    EXPECT_EQ(exit->code, 130);
}

TEST_F(ExecTest, All_output_of_a_short_command_on_a_terminal_arrives) {
    for (int i = 0; i < 20; ++i) {
        TestIo io;
        ExecRequest request;
        request.pod = desired_.id;
        request.container = "c";
        request.command = {"echo", "hello"};
        request.tty = true;
        ASSERT_TRUE(provider().exec(request, io, context()));
        ASSERT_EQ(io.out.written(), "hello\r\n");
    }
}

TEST_F(ExecTest, A_client_that_leaves_hangs_up_the_command) {
    for (const bool tty : {false, true}) {
        TestIo io;
        std::stop_source client;
        Result<ExitStatus> exit = ExitStatus{};
        {
            Thread session("session", [&](std::stop_token) {
                ExecRequest request;
                request.pod = desired_.id;
                request.container = "c";
                request.command = {
                    "sh", "-c",
                    "trap 'echo hup > hup; exit 0' HUP; echo ready; while :; do sleep 0.02; done"};
                request.tty = tty;
                exit = provider().exec(request, io, context().with_stop(client.get_token()));
            });
            ASSERT_TRUE(eventually([&] { return io.out.written().rfind("ready", 0) == 0; }));
            client.request_stop();
        }
        ASSERT_FALSE(exit);
        EXPECT_EQ(exit.error().kind, ErrorKind::Cancelled);
        EXPECT_TRUE(eventually([&] { return read(paths(desired_).work() + "/hup") == "hup\n"; }));
        std::filesystem::remove(paths(desired_).work() + "/hup");
    }
}

TEST_F(ExecTest, A_deadline_ends_the_session) {
    const auto exit = exec_in("c", {"sleep", "60"}, false, context(Duration(200)));
    ASSERT_FALSE(exit);
    EXPECT_EQ(exit.error().kind, ErrorKind::Timeout);
}

TEST_F(ExecTest, A_hung_up_command_that_stays_is_reaped_when_it_ends) {
    const auto exit =
        exec_in("c", {"sh", "-c", "trap '' HUP; echo $$; sleep 2"}, false, context(Duration(300)));
    ASSERT_FALSE(exit);
    const pid_t pid = std::stoi(io_.out.written());
    EXPECT_TRUE(eventually([&] { return !std::filesystem::exists(fmt::format("/proc/{}", pid)); }));
}

TEST_F(ExecTest, Commands_that_cannot_be_run_say_so_as_a_runtime_does) {
    auto exit = exec({"no-such-command"});
    ASSERT_FALSE(exit);
    EXPECT_EQ(exit.error().kind, ErrorKind::Internal);
    EXPECT_EQ(exit.error().message, "exec: \"no-such-command\": executable file not found in $PATH");
    exit = exec({"/no/such/file"});
    ASSERT_FALSE(exit);
    EXPECT_EQ(exit.error().message, "exec /no/such/file: No such file or directory");
    exit = exec({"/etc"});
    ASSERT_FALSE(exit);
    EXPECT_EQ(exit.error().message, "exec /etc: Permission denied");
}

TEST_F(ExecTest, A_container_that_is_not_running_is_not_found) {
    auto exit = exec_in("x", {"true"}, false, context());
    ASSERT_FALSE(exit);
    EXPECT_EQ(exit.error().kind, ErrorKind::NotFound);
    ASSERT_TRUE(provider().remove(desired_.id, std::chrono::seconds(0), context()));
    ASSERT_TRUE(wait_ended(desired_));
    exit = exec({"true"});
    ASSERT_FALSE(exit);
    EXPECT_EQ(exit.error().kind, ErrorKind::NotFound);
}

TEST_F(ExecTest, The_end_of_the_container_ends_its_commands) {
    Result<ExitStatus> exit = fail(ErrorKind::Internal, "still running");
    {
        Thread session("session", [&](std::stop_token) { exit = sh("echo go; exec sleep 60"); });
        ASSERT_TRUE(eventually([&] { return io_.out.written() == "go\n"; }));
        ASSERT_TRUE(provider().remove(desired_.id, std::chrono::seconds(0), context()));
    }
    ASSERT_TRUE(exit) << exit.error().message;
    EXPECT_EQ(exit->code, 137);
}

TEST_F(ExecTest, Sessions_leave_no_descriptors_behind) {
    const auto count = [] {
        const std::filesystem::directory_iterator all("/proc/self/fd");
        return std::distance(begin(all), end(all));
    };
    ASSERT_TRUE(sh("true"));
    const auto before = count();
    for (int i = 0; i < 5; ++i) {
        ASSERT_TRUE(sh("true", i % 2 == 0));
        ASSERT_FALSE(exec({"no-such-command"}));
    }
    EXPECT_EQ(count(), before);
}

TEST_F(ExecTest, A_command_inherits_no_descriptor_but_its_three) {
    const int leaked = ::open("/dev/null", O_RDONLY);  // as a library that forgets close-on-exec
    const auto exit = sh("ls /proc/self/fd | wc -l");
    ::close(leaked);
    ASSERT_TRUE(exit);
    EXPECT_EQ(io_.out.written(), "4\n");  // 0, 1, 2 and ls's own
}

}  // namespace
}  // namespace k8sgpu::providers::process
