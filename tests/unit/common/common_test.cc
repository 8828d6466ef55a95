// Tests of common/: each section names its header.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <future>

#include "common/backoff.h"
#include "common/call_context.h"
#include "common/encoding.h"
#include "common/file.h"
#include "common/json.h"
#include "common/task_pool.h"

namespace k8sgpu {
namespace {

using std::chrono::seconds;

// ---- encoding.h
// ---------------------------------------------------------------------------------------------------

TEST(Encoding, Base64_round_trips_and_refuses_other_bytes) {
    for (const std::string text : {"", "f", "fo", "foo", "foob", "fooba", "foobar"}) {
        EXPECT_EQ(*base64_decode(base64_encode(text)), text);
        EXPECT_EQ(*base64url_decode(base64url_encode(text)), text);
    }
    EXPECT_EQ(base64_encode("foob"), "Zm9vYg==");
    EXPECT_EQ(base64url_encode("\xfb\xff"), "-_8");
    EXPECT_FALSE(base64_decode("Zm9v!"));
    EXPECT_FALSE(base64_decode("Zm9vY"));
    EXPECT_FALSE(base64_decode("-_8")) << "the URL alphabet is another one";
}

TEST(Encoding, Times_as_Kubernetes_writes_and_reads_them) {
    const WallTime time = std::chrono::sys_days(std::chrono::year(2026) / 2 / 3) + std::chrono::hours(4) +
                          std::chrono::nanoseconds(123'456'789);
    EXPECT_EQ(rfc3339_seconds(time), "2026-02-03T04:00:00Z");
    EXPECT_EQ(rfc3339_micros(time), "2026-02-03T04:00:00.123456Z");
    EXPECT_EQ(rfc3339_nanos(time), "2026-02-03T04:00:00.123456789Z");
    EXPECT_EQ(parse_rfc3339("2026-02-03T04:00:00.123456789Z"), time);
    EXPECT_EQ(parse_rfc3339("2026-02-03T06:30:00.123456789+02:30"), time);
    for (const char* wrong :
         {"", "2026-02-03", "2026-13-03T04:00:00Z", "2026-02-30T04:00:00Z", "2026-02-03T04:00:00",
          "2026-02-03T04:00:00.Z", "2026-02-03T24:00:00Z", "2026-02-03T04:00:00+0230"}) {
        EXPECT_FALSE(parse_rfc3339(wrong)) << wrong;
    }
}

TEST(Encoding, A_time_beyond_what_can_be_held_becomes_the_nearest_that_can) {
    EXPECT_EQ(rfc3339_seconds(*parse_rfc3339("0001-01-01T00:00:00Z")), "1678-01-01T00:00:00Z");
    EXPECT_EQ(rfc3339_seconds(*parse_rfc3339("9999-12-31T23:59:59Z")), "2262-01-01T00:00:00Z");
}

TEST(Json, Nested_beyond_any_object_is_refused_before_it_costs_stack) {
    const auto nested = [](std::size_t levels) {
        return std::string(levels, '[') + std::string(levels, ']');
    };
    EXPECT_TRUE(parse_json(nested(1000), "x"));
    EXPECT_EQ(parse_json(nested(1001), "x").error().message, "x: nested deeper than 1000 levels");
    EXPECT_FALSE(parse_json(std::string(16U << 20U, '['), "x"));
    EXPECT_TRUE(parse_json("\"" + std::string(2000, '[') + "\\\"[\"", "x")) << "brackets in a text are text";
}

TEST(Encoding, Url_escapes) {
    EXPECT_EQ(url_encode("a b/ü"), "a%20b%2F%C3%BC");
    EXPECT_EQ(url_decode("a%20b+c", true), "a b c");
    EXPECT_EQ(url_decode("a+b", false), "a+b");
    EXPECT_FALSE(url_decode("%2", false));
    EXPECT_FALSE(url_decode("%zz", false));
}

TEST(Encoding, Sha256_of_the_empty_text) {
    EXPECT_EQ(hex_encode(sha256("")), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

// ---- json.h
// -------------------------------------------------------------------------------------------------------

TEST(Json, Readers_take_a_missing_or_mistyped_field_as_absent) {
    const Json json = *parse_json(R"({"a":{"b":"x","n":3},"list":[1]})", "test");
    EXPECT_EQ(string_at(json, {"a", "b"}), "x");
    EXPECT_EQ(string_at(json, {"a", "n"}, "none"), "none");
    EXPECT_EQ(string_at(json, {"list", "b"}, "none"), "none");
    EXPECT_EQ(int_at(json, {"a", "n"}), 3);
    EXPECT_EQ(array_at(json, {"list"}).size(), 1U);
    EXPECT_TRUE(array_at(json, {"a"}).empty());
    EXPECT_TRUE(at(json, {"a", "b", "c"}).is_null());
    EXPECT_EQ(parse_json("{", "watch event").error().message, "watch event: not valid JSON");
}

TEST(Json, Bytes_that_are_not_text_are_written_without_throwing) {
    EXPECT_NO_THROW(dump_json(Json("\xff")));
}

// ---- backoff.h
// ----------------------------------------------------------------------------------------------------

TEST(Backoff, Doubles_to_its_cap_within_the_jitter_and_starts_over) {
    Backoff backoff({Duration(100), Duration(1000), 2.0, 0.1}, 7);
    for (const int expected : {100, 200, 400, 800, 1000, 1000}) {
        const auto delay = backoff.next().count();
        EXPECT_GE(delay, expected * 9 / 10 - 1);
        EXPECT_LE(delay, expected * 11 / 10 + 1);
    }
    EXPECT_EQ(backoff.attempts(), 6);
    backoff.reset();
    EXPECT_LE(backoff.next().count(), 111);
}

// ---- clock.h, call_context.h
// --------------------------------------------------------------------------------------

TEST(FakeClock, Wakes_a_sleeper_when_its_time_has_come) {
    FakeClock clock;
    auto slept = std::async(std::launch::async, [&] { return clock.sleep_for(seconds(30), {}); });
    ASSERT_TRUE(clock.wait_for_sleepers(1));
    clock.advance(seconds(29));
    EXPECT_EQ(slept.wait_for(Duration(20)), std::future_status::timeout);
    clock.advance(seconds(1));
    EXPECT_TRUE(slept.get());
}

TEST(FakeClock, A_stop_ends_a_sleep_early) {
    FakeClock clock;
    std::stop_source stop;
    auto slept =
        std::async(std::launch::async, [&] { return clock.sleep_for(seconds(30), stop.get_token()); });
    ASSERT_TRUE(clock.wait_for_sleepers(1));
    stop.request_stop();
    EXPECT_FALSE(slept.get());
}

TEST(CallContext, A_child_can_only_shrink) {
    FakeClock clock;
    const auto parent = CallContext::with_timeout(clock, seconds(10), {});
    EXPECT_EQ(parent.with_timeout(seconds(60)).remaining(), seconds(10));
    EXPECT_EQ(parent.with_timeout(seconds(3)).remaining(), seconds(3));
    clock.advance(seconds(11));
    EXPECT_EQ(parent.check().error().kind, ErrorKind::Timeout);
    EXPECT_EQ(parent.remaining(), Duration::zero());
}

// ---- task_pool.h
// --------------------------------------------------------------------------------------------------

TEST(TaskPool, Runs_everything_and_drops_what_is_queued_at_stop) {
    SystemClock clock;
    TaskPool pool(clock, "test", 2);
    std::atomic<int> ran = 0;
    std::promise<void> all;
    for (int i = 0; i < 100; ++i) {
        pool.add([&](std::stop_token) {
            if (++ran == 100) all.set_value();
        });
    }
    ASSERT_EQ(all.get_future().wait_for(seconds(10)), std::future_status::ready);
    pool.stop();
    pool.add([&](std::stop_token) { ++ran; });
    pool.stop();
    EXPECT_EQ(ran, 100);
}

TEST(TaskPool, Stop_asks_a_running_task_through_its_token) {
    SystemClock clock;
    TaskPool pool(clock, "test", 1);
    std::promise<void> started;
    std::atomic<bool> asked = false;
    pool.add([&](std::stop_token stop) {
        started.set_value();
        clock.sleep_for(seconds(60), stop);
        asked = stop.stop_requested();
    });
    started.get_future().wait();
    pool.stop();
    EXPECT_TRUE(asked);
}

// ---- file.h
// -------------------------------------------------------------------------------------------------------

class Files : public ::testing::Test {
  protected:
    Files() {
        char name[] = "/tmp/k8sgpu-files-XXXXXX";
        folder_ = ::mkdtemp(name);
    }
    ~Files() override { std::filesystem::remove_all(folder_); }
    std::string path(const std::string& name) const { return folder_ + "/" + name; }
    std::string folder_;
};

TEST_F(Files, Replacing_sets_content_and_mode_and_leaves_no_other_file) {
    ASSERT_TRUE(replace_file(path("a"), "one", 0600));
    ASSERT_TRUE(replace_file(path("a"), "two", 0640));
    EXPECT_EQ(*read_file(path("a")), "two");
    struct stat info {};
    ::stat(path("a").c_str(), &info);
    EXPECT_EQ(info.st_mode & 0777U, 0640U);
    EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder_), {}), 1);
}

TEST_F(Files, A_credential_that_others_may_write_is_refused_with_the_remedy) {
    ASSERT_TRUE(replace_file(path("kubeconfig"), "x", 0620));
    const auto content = read_trusted_file(path("kubeconfig"));
    ASSERT_FALSE(content);
    EXPECT_THAT(content.error().message, ::testing::HasSubstr("chmod go-w"));
    ::chmod(path("kubeconfig").c_str(), 0644);
    EXPECT_TRUE(read_trusted_file(path("kubeconfig")));
}

TEST_F(Files, Limits_and_kinds) {
    ASSERT_TRUE(replace_file(path("big"), std::string(100, 'x'), 0600));
    EXPECT_EQ(read_file(path("big"), 99).error().kind, ErrorKind::Invalid);
    EXPECT_EQ(read_file(path("none")).error().kind, ErrorKind::NotFound);
    EXPECT_EQ(read_file(folder_).error().kind, ErrorKind::Invalid);
    EXPECT_EQ(replace_file(path("no/such/folder"), "x", 0600).error().kind, ErrorKind::NotFound);
}

}  // namespace
}  // namespace k8sgpu
