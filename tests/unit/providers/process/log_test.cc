#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <thread>

#include "common/encoding.h"
#include "common/file.h"
#include "common/thread.h"
#include "fixture.h"
#include "providers/process/log_reader.h"
#include "providers/process/log_writer.h"

namespace k8sgpu::providers::process {
namespace {

const WallTime kTime{std::chrono::seconds(1'700'000'000)};
constexpr const char* kStamp = "2023-11-14T22:13:20.000000000Z";

class LogTest : public testing::Test {
  protected:
    void SetUp() override {
        std::string name = "/tmp/k8sgpu-log-test.XXXXXX";
        ASSERT_NE(::mkdtemp(name.data()), nullptr);
        dir_ = name;
        path_ = dir_ + "/0.log";
    }
    void TearDown() override { std::filesystem::remove_all(dir_); }

    std::string file(const std::string& suffix = "") const {
        auto text = read_file(path_ + suffix);
        return text ? *text : "(absent)";
    }
    CallContext context() const {
        return CallContext::with_timeout(clock_, Duration(20'000), stop_.get_token());
    }
    std::string read(const LogRequest& request, int files = 5) const {
        StringSink sink;
        const auto done = read_log(
            path_, files, request, sink, [] { return true; }, context());
        return done ? sink.text() : "error: " + done.error().message;
    }
    // Lines "1" … "count", a second apart, in parts of at most `bytes`.
    void write_lines(int count, std::int64_t bytes = 1 << 20) {
        LogWriter writer(path_, bytes, 5);
        ASSERT_TRUE(writer.open());
        for (int i = 1; i <= count; ++i) {
            writer.append(LogStream::Stdout, std::to_string(i) + "\n", kTime + std::chrono::seconds(i));
        }
    }

    mutable SystemClock clock_;
    std::stop_source stop_;
    std::string dir_, path_;
};

TEST_F(LogTest, Lines_carry_time_stream_and_tag) {
    LogWriter writer(path_, 1 << 20, 5);
    ASSERT_TRUE(writer.open());
    writer.append(LogStream::Stdout, "a\nb", kTime);
    writer.append(LogStream::Stderr, "e\n", kTime);
    writer.append(LogStream::Stdout, "c\n\nhalf", kTime);
    writer.finish(LogStream::Stdout, kTime);
    writer.finish(LogStream::Stderr, kTime);
    const std::string stamp = kStamp;
    EXPECT_EQ(file(), stamp + " stdout F a\n" + stamp + " stderr F e\n" + stamp + " stdout F bc\n" + stamp +
                          " stdout F \n" + stamp + " stdout P half\n");
}

TEST_F(LogTest, Lines_longer_than_16_KiB_are_split_and_put_together_again) {
    for (const std::size_t length : {kMaxLogLine - 1, kMaxLogLine, kMaxLogLine + 1, 3 * kMaxLogLine}) {
        std::filesystem::remove(path_);
        const std::string line(length, 'x');
        LogWriter writer(path_, 1 << 20, 5);
        ASSERT_TRUE(writer.open());
        // In uneven pieces, as pipes deliver.
        for (std::size_t at = 0; at < line.size() + 1; at += 1000) {
            writer.append(LogStream::Stdout, (line + "\n").substr(at, 1000), kTime);
        }
        LogRequest request;
        EXPECT_EQ(read(request), line + "\n") << length;
        request.timestamps = true;
        EXPECT_EQ(read(request), std::string(kStamp) + " " + line + "\n") << length;
        EXPECT_EQ(file().find(" P ") != std::string::npos, length > kMaxLogLine) << length;
    }
}

TEST_F(LogTest, Rotation_keeps_the_newest_parts_and_reading_joins_them) {
    write_lines(30, 90);  // two lines a part
    EXPECT_EQ(file(".5"), "(absent)");
    EXPECT_NE(file(".4"), "(absent)");
    EXPECT_EQ(read({}), "21\n22\n23\n24\n25\n26\n27\n28\n29\n30\n");
}

TEST_F(LogTest, Tail_counts_from_the_end_across_parts) {
    write_lines(30, 90);
    LogRequest request;
    for (const auto& [tail, expected] : {std::pair{0, ""}, std::pair{1, "30\n"}, std::pair{3, "28\n29\n30\n"},
                                         std::pair{100, "21\n22\n23\n24\n25\n26\n27\n28\n29\n30\n"}}) {
        request.tail_lines = tail;
        EXPECT_EQ(read(request), expected) << tail;
    }
}

TEST_F(LogTest, Since_filters_after_tail) {
    write_lines(10);
    LogRequest request;
    request.since_time = kTime + std::chrono::seconds(8);
    EXPECT_EQ(read(request), "8\n9\n10\n");
    request.tail_lines = 2;
    EXPECT_EQ(read(request), "9\n10\n");
    request.since_time = kTime + std::chrono::seconds(11);
    EXPECT_EQ(read(request), "");
    LogRequest seconds;
    seconds.since_seconds = std::numeric_limits<std::int64_t>::max();
    EXPECT_EQ(read(seconds).size(), 21U);
    seconds.since_seconds = 1;
    EXPECT_EQ(read(seconds), "");
}

TEST_F(LogTest, LimitBytes_cuts_inside_a_line_and_counts_time_stamps) {
    write_lines(12);
    LogRequest request;
    request.limit_bytes = 5;
    EXPECT_EQ(read(request), "1\n2\n3");
    request.limit_bytes = 32;
    request.timestamps = true;
    EXPECT_EQ(read(request), "2023-11-14T22:13:21.000000000Z 1");
    request.limit_bytes = 34;
    EXPECT_EQ(read(request), "2023-11-14T22:13:21.000000000Z 1\n2");
}

TEST_F(LogTest, A_missing_log_is_NotFound_before_anything_is_sent) {
    StringSink sink;
    const auto done = read_log(
        path_, 5, {}, sink, [] { return true; }, context());
    ASSERT_FALSE(done);
    EXPECT_EQ(done.error().kind, ErrorKind::NotFound);
    EXPECT_FALSE(sink.begun());
}

TEST_F(LogTest, Lines_that_are_none_of_ours_are_left_out) {
    ASSERT_TRUE(replace_file(
        path_, "garbage\n2023-11-14T22:13:20Z stdin F x\n2023-11-14T22:13:20Z stdout F ok\n", 0600));
    EXPECT_EQ(read({}), "ok\n");
    for (const char* line :
         {"", " ", "t stdout", "t stdout F", "t stdout X y", "t stdoutF y", "tstdout F y"}) {
        EXPECT_FALSE(parse_log_line(line)) << line;
    }
    EXPECT_EQ(parse_log_line("t stderr P ")->text, "");
}

TEST_F(LogTest, Following_loses_and_repeats_nothing_across_rotation) {
    constexpr int kLines = 400;
    LogWriter writer(path_, 2000, 100);
    ASSERT_TRUE(writer.open());
    LogRequest request;
    request.follow = true;
    StringSink sink;
    std::atomic<bool> over = false;
    Result<void> done;
    {
        Thread reader("reader", [&](std::stop_token) {
            done = read_log(
                path_, 100, request, sink, [&] { return over.load(); }, context());
        });
        std::string expected;
        for (int i = 0; i < kLines; ++i) {
            const std::string line = "line " + std::to_string(i) + "\n";
            expected += line;
            writer.append(LogStream::Stdout, line, kTime);
            if (i % 100 == 99) {
                EXPECT_TRUE(eventually([&] { return sink.text() == expected; })) << i;
            }
        }
        writer.append(LogStream::Stdout, "last\n", kTime);
        over = true;
    }
    EXPECT_TRUE(done);
    EXPECT_EQ(sink.text().substr(sink.text().size() - 14), "line 399\nlast\n");
}

TEST_F(LogTest, Following_ends_with_the_caller) {
    write_lines(1);
    LogRequest request;
    request.follow = true;
    StringSink sink;
    Result<void> done;
    {
        Thread reader("reader", [&](std::stop_token) {
            done = read_log(
                path_, 5, request, sink, [] { return false; }, context());
        });
        ASSERT_TRUE(eventually([&] { return sink.text() == "1\n"; }));
        stop_.request_stop();
    }
    ASSERT_FALSE(done);
    EXPECT_EQ(done.error().kind, ErrorKind::Cancelled);
}

TEST_F(ProviderTest, Following_a_container_ends_when_it_has_ended) {
    const DesiredPod desired = pod("echo 1; while [ ! -e go ]; do sleep 0.02; done; echo 2");
    run(desired);
    ASSERT_TRUE(wait_running(desired));
    LogRequest request;
    request.pod = desired.id;
    request.container = "c";
    request.follow = true;
    StringSink sink;
    Result<void> done = fail(ErrorKind::Internal, "still following");
    {
        Thread reader("reader", [&](std::stop_token) { done = provider().logs(request, sink, context()); });
        ASSERT_TRUE(eventually([&] { return sink.text() == "1\n"; }));
        ASSERT_TRUE(replace_file(paths(desired).work() + "/go", "", 0600));
    }
    EXPECT_TRUE(done) << done.error().message;
    EXPECT_EQ(sink.text(), "1\n2\n");
}

TEST_F(ProviderTest, Output_beyond_the_limit_is_rotated_and_all_kept_parts_are_read) {
    options().limits.log_bytes = 4096;
    options().limits.log_files = 3;
    restart_provider();
    const DesiredPod desired = pod("i=0; while [ $i -lt 1000 ]; do echo line $i; i=$((i+1)); done");
    run(desired);
    ASSERT_TRUE(wait_ended(desired));
    EXPECT_TRUE(std::filesystem::exists(paths(desired).log("c", 0) + ".2"));
    EXPECT_FALSE(std::filesystem::exists(paths(desired).log("c", 0) + ".3"));
    EXPECT_EQ(log_of(desired, [](LogRequest& r) { r.tail_lines = 2; }), "line 998\nline 999\n");
    EXPECT_GT(log_of(desired).size(), 1000U);
}

TEST_F(ProviderTest, Log_requests_without_a_log_get_the_kubelets_answers) {
    DesiredPod desired = pod("sleep 60");
    desired.pod["spec"]["initContainers"] = {{{"name", "i"}, {"command", {"sleep", "60"}}}};
    EXPECT_EQ(log_of(desired), "error: pod \"p\" does not exist");
    run(desired);
    ASSERT_TRUE(eventually([&] { return at(container(desired, "i"), {"state", "running"}).is_object(); }));
    EXPECT_EQ(log_of(desired), "error: container \"c\" in pod \"p\" is waiting to start: PodInitializing");
    EXPECT_EQ(log_of(desired, [](LogRequest& r) { r.container = "x"; }),
              "error: container \"x\" not found in pod \"p\"");
    EXPECT_EQ(log_of(desired,
                     [](LogRequest& r) {
                         r.container = "i";
                         r.previous = true;
                     }),
              "error: previous terminated container \"i\" in pod \"p\" not found");
}

}  // namespace
}  // namespace k8sgpu::providers::process
