#include "kube/internal/subprocess.h"

#include <gtest/gtest.h>

#include <thread>

namespace k8sgpu::kube {
namespace {

using namespace std::chrono_literals;

class SubprocessTest : public testing::Test {
  protected:
    Result<CommandResult> shell(const std::string& script, Duration timeout = 10s) {
        Command command;
        command.program = "sh";
        command.args = {"-c", script};
        command.env = {{"ADDED", "yes"}, {"HOME", "/nowhere"}};
        command.max_output = 100'000;
        return run_command(command, CallContext::with_timeout(clock, timeout, stop.get_token()));
    }
    SystemClock clock;
    std::stop_source stop;
};

TEST_F(SubprocessTest, Output_and_exit_code_come_back) {
    const auto result = shell("echo out; echo err >&2; echo $ADDED $HOME; exit 7");
    ASSERT_TRUE(result) << result.error().message;
    EXPECT_EQ(result->exit_code, 7);
    EXPECT_EQ(result->out, "out\nyes /nowhere\n");
    EXPECT_EQ(result->err, "err\n");
    EXPECT_EQ(shell("kill -9 $$")->exit_code, 137);
}

TEST_F(SubprocessTest, A_large_output_is_read_whole_and_a_larger_one_refused) {
    EXPECT_EQ(shell("head -c 90000 /dev/zero")->out.size(), 90'000U);
    const auto refused = shell("head -c 200000 /dev/zero; sleep 600");
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().kind, ErrorKind::Invalid);
}

TEST_F(SubprocessTest, The_whole_group_dies_at_the_deadline) {
    const auto late = shell("sleep 600 & sleep 600", 50ms);
    ASSERT_FALSE(late);
    EXPECT_EQ(late.error().kind, ErrorKind::Timeout);
}

TEST_F(SubprocessTest, A_child_left_in_the_background_does_not_hold_us) {
    const auto result = shell("sleep 5 & echo done");
    ASSERT_TRUE(result);
    EXPECT_EQ(result->out, "done\n");
}

TEST_F(SubprocessTest, A_stop_request_ends_the_wait) {
    std::jthread stopper([&] { stop.request_stop(); });
    const auto stopped = shell("sleep 600");
    ASSERT_FALSE(stopped);
    EXPECT_EQ(stopped.error().kind, ErrorKind::Cancelled);
}

TEST_F(SubprocessTest, A_missing_program_is_not_found_and_descriptors_are_not_inherited) {
    Command command;
    command.program = "/nowhere/prog";
    const auto missing = run_command(command, CallContext::until_stopped(clock, stop.get_token()));
    ASSERT_FALSE(missing);
    EXPECT_EQ(missing.error().kind, ErrorKind::NotFound);
    EXPECT_EQ(shell("ls /proc/self/fd | wc -l")->out, "4\n");  // 0, 1, 2 and that of ls itself
}

}  // namespace
}  // namespace k8sgpu::kube
