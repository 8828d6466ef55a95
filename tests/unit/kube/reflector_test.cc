#include "kube/reflector.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kube/testing/fake_transport.h"
#include "tests/unit/kube/recording_handler.h"

namespace k8sgpu::kube {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr const char* kPath = "/api/v1/pods";

std::string event(const char* type, const std::string& name, int version) {
    const Json json = {
        {"type", type},
        {"object", {{"metadata", {{"name", name}, {"resourceVersion", std::to_string(version)}}}}}};
    return json.dump() + "\n";
}

class ReflectorTest : public testing::Test {
  protected:
    ReflectorTest() { options.name = "pods"; }
    ~ReflectorTest() override { reflector.stop(); }

    void list_once(const std::vector<std::string>& names, int version, const std::string& next = "") {
        Json items = Json::array();
        for (const std::string& name : names) items.push_back({{"metadata", {{"name", name}}}});
        Json metadata = {{"resourceVersion", std::to_string(version)}};
        if (!next.empty()) metadata["continue"] = next;
        api.reply_once("GET", kPath, 200,
                       {{"kind", "PodList"}, {"apiVersion", "v1"}, {"metadata", metadata}, {"items", items}});
    }
    std::shared_ptr<ScriptedStream> watch_once() { return api.stream_once("GET", kPath); }
    void refuse_once(int code, const char* reason) {
        api.reply_once("GET", kPath, code,
                       {{"kind", "Status"}, {"code", code}, {"reason", reason}, {"message", "m"}});
    }
    std::string request(std::size_t index) {
        EXPECT_TRUE(api.wait_for_requests("GET", kPath, index + 1));
        return api.requests().at(index).path;
    }
    void skip_pause(Duration by) {
        ASSERT_TRUE(clock.wait_for_sleepers(1));
        clock.advance(by);
    }

    FakeClock clock;
    FakeTransport api;
    ApiClient client{api};
    RecordingHandler handler;
    ReflectorOptions options{
        .name = "pods", .resource = resources::kPods, .ns = "", .field_selector = "", .label_selector = ""};
    Reflector reflector{client, clock, options, handler};
};

TEST_F(ReflectorTest, Lists_in_pages_then_watches_from_the_version_of_the_list) {
    list_once({"a"}, 10, "more");
    list_once({"b"}, 10);
    auto watch = watch_once();
    reflector.start();
    EXPECT_THAT(handler.wait_for(1), ElementsAre("listed a,b"));
    EXPECT_THAT(request(0), HasSubstr("limit=500"));
    EXPECT_THAT(request(1), HasSubstr("continue=more"));
    EXPECT_THAT(request(2), HasSubstr("resourceVersion=10"));
    EXPECT_TRUE(reflector.synced());
    watch->push(event("ADDED", "c", 11) + event("MODIFIED", "a", 12));
    watch->push(event("DELETED", "b", 13));
    EXPECT_THAT(handler.wait_for(4), ElementsAre("listed a,b", "applied c@11", "applied a@12", "deleted b"));
}

TEST_F(ReflectorTest, A_watch_that_the_server_ends_is_resumed_at_once_from_the_last_version) {
    list_once({}, 10);
    auto first = watch_once();
    auto second = watch_once();
    auto third = watch_once();
    reflector.start();
    first->push(event("ADDED", "a", 11) + event("BOOKMARK", "", 20));
    first->end();
    EXPECT_THAT(request(2), HasSubstr("resourceVersion=20"));
    // Cut in the middle of a line: the event is not lost, because its version was never taken.
    second->push(event("MODIFIED", "a", 21) + event("MODIFIED", "a", 22).substr(0, 15));
    second->fail_with({ErrorKind::Unavailable, "reset", {}, {}});
    EXPECT_THAT(request(3), HasSubstr("resourceVersion=21"));
    third->push(event("MODIFIED", "a", 22));
    EXPECT_THAT(handler.wait_for(4), ElementsAre("listed ", "applied a@11", "applied a@21", "applied a@22"));
}

TEST_F(ReflectorTest, An_expired_version_leads_to_a_list_that_replaces_everything) {
    list_once({"a", "b"}, 10);
    auto first = watch_once();
    list_once({"b"}, 30);
    watch_once();
    reflector.start();
    first->push(event("MODIFIED", "a", 11));
    const Json expired = {
        {"type", "ERROR"},
        {"object", {{"kind", "Status"}, {"code", 410}, {"reason", "Expired"}, {"message", "too old"}}}};
    first->push(expired.dump() + "\n");
    EXPECT_THAT(handler.wait_for(3), ElementsAre("listed a,b", "applied a@11", "listed b"));
    EXPECT_THAT(request(3), HasSubstr("resourceVersion=30"));
}

TEST_F(ReflectorTest, A_410_answer_right_after_a_list_is_not_repeated_in_a_hot_circle) {
    list_once({}, 10);
    refuse_once(410, "Expired");
    list_once({}, 11);
    watch_once();
    reflector.start();
    EXPECT_THAT(handler.wait_for(1), ElementsAre("listed "));
    skip_pause(1s);
    EXPECT_THAT(handler.wait_for(2), ElementsAre("listed ", "listed "));
}

TEST_F(ReflectorTest, A_list_that_expires_between_pages_is_fetched_in_one_piece) {
    list_once({"a"}, 10, "more");
    refuse_once(410, "Expired");
    list_once({"a", "b"}, 11);
    watch_once();
    reflector.start();
    skip_pause(1s);
    EXPECT_THAT(handler.wait_for(1), ElementsAre("listed a,b"));
    EXPECT_THAT(request(2), testing::Not(HasSubstr("limit")));
}

TEST_F(ReflectorTest, Failures_are_reported_each_time_and_recovery_once) {
    api.fail_once("GET", kPath, {ErrorKind::Unavailable, "refused", {}, {}});
    refuse_once(403, "Forbidden");
    list_once({}, 10);
    refuse_once(503, "ServiceUnavailable");
    watch_once();
    reflector.start();
    handler.wait_for(1);
    EXPECT_EQ(handler.last_error(), "listing pods: refused");
    skip_pause(1s);
    handler.wait_for(2);
    skip_pause(1s);
    handler.wait_for(5);
    skip_pause(2s);
    EXPECT_THAT(handler.wait_for(6), ElementsAre("error Unavailable", "error Forbidden", "recovered",
                                                 "listed ", "error Unavailable", "recovered"));
    EXPECT_EQ(api.requests().size(), 5U);  // the failed watch did not cost another list
}

TEST_F(ReflectorTest, The_pause_grows_and_honours_retry_after) {
    api.handle_once("GET", kPath, [](const Request&) -> Result<Response> {
        return Response{429, {{"retry-after", "20"}}, ""};
    });
    list_once({}, 10);
    watch_once();
    reflector.start();
    EXPECT_THAT(handler.wait_for(1), ElementsAre("error Throttled"));
    skip_pause(19s);
    ASSERT_TRUE(clock.wait_for_sleepers(1));
    EXPECT_EQ(api.requests().size(), 1U);
    clock.advance(1s);
    EXPECT_THAT(handler.wait_for(3), ElementsAre("error Throttled", "recovered", "listed "));
}

TEST_F(ReflectorTest, A_silent_watch_is_cut_after_its_server_side_end) {
    list_once({}, 10);
    auto first = watch_once();
    watch_once();
    reflector.start();
    request(1);
    skip_pause(300s + 30s - 1s);
    ASSERT_TRUE(clock.wait_for_sleepers(1));
    EXPECT_EQ(api.requests().size(), 2U);
    clock.advance(301s);
    EXPECT_THAT(request(2), HasSubstr("resourceVersion=10"));
    EXPECT_TRUE(first->cancelled());
}

TEST_F(ReflectorTest, After_a_bookmark_silence_is_noticed_sooner) {
    list_once({}, 10);
    auto first = watch_once();
    watch_once();
    reflector.start();
    first->push(event("BOOKMARK", "", 15) + event("ADDED", "a", 16));
    EXPECT_THAT(handler.wait_for(2), ElementsAre("listed ", "applied a@16"));
    skip_pause(180s);
    EXPECT_THAT(request(2), HasSubstr("resourceVersion=16"));
}

TEST_F(ReflectorTest, A_version_from_the_future_leads_to_a_list) {
    list_once({}, 1000);
    refuse_once(504, "Timeout");  // "Too large resource version": etcd was restored from a backup
    list_once({"a"}, 5);
    watch_once();
    reflector.start();
    handler.wait_for(2);
    skip_pause(1s);
    EXPECT_THAT(handler.wait_for(4), ElementsAre("listed ", "error Timeout", "recovered", "listed a"));
}

TEST_F(ReflectorTest, Garbage_in_a_watch_is_reported_and_leads_to_a_list) {
    list_once({}, 10);
    auto first = watch_once();
    list_once({"a"}, 20);
    watch_once();
    reflector.start();
    first->push("garbage\n");
    handler.wait_for(2);
    skip_pause(1s);
    EXPECT_THAT(handler.wait_for(4), ElementsAre("listed ", "error Protocol", "recovered", "listed a"));
}

TEST_F(ReflectorTest, Stopping_during_a_pause_or_a_watch_is_prompt_and_silent) {
    api.fail_once("GET", kPath, {ErrorKind::Unavailable, "refused", {}, {}});
    reflector.start();
    ASSERT_TRUE(clock.wait_for_sleepers(1));
    reflector.stop();
    reflector.stop();
    EXPECT_THAT(handler.wait_for(1), ElementsAre("error Unavailable"));

    list_once({}, 10);
    auto stream = watch_once();
    Reflector other(client, clock, options, handler);
    other.start();
    request(2);
    other.stop();
    EXPECT_TRUE(stream->cancelled());
    EXPECT_THAT(handler.wait_for(2), ElementsAre("error Unavailable", "listed "));
}

}  // namespace
}  // namespace k8sgpu::kube
