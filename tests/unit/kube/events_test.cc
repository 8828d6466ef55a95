#include "kube/events.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <malloc.h>

#include "kube/internal/event_correlator.h"
#include "kube/testing/fake_transport.h"

namespace k8sgpu::kube {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;
using testing::StartsWith;

const EventObject kPod{"v1", "Pod", "a", "p", "u1", "7", "spec.containers{main}"};
constexpr const char* kEvents = "/api/v1/namespaces/a/events";

class EventCorrelatorTest : public testing::Test {
  protected:
    EventPlan observe(const std::string& message, const EventObject& about = kPod) {
        return correlator.observe({about, "Warning", "BackOff", message, WallTime(1'700'000'000s)}, now);
    }
    EventCorrelator correlator;
    SteadyTime now{1h};
};

TEST_F(EventCorrelatorTest, Repeats_count_in_one_object_and_others_get_their_own) {
    const EventPlan first = observe("x");
    EXPECT_EQ(first.count, 1);
    EXPECT_THAT(first.name, StartsWith("p.17"));
    const EventPlan again = observe("x");
    EXPECT_EQ(again.count, 2);
    EXPECT_EQ(again.name, first.name);
    const EventPlan other = observe("y");
    EXPECT_EQ(other.count, 1);
    EXPECT_NE(other.name, first.name);
    EventObject sidecar = kPod;
    sidecar.field_path = "spec.containers{sidecar}";
    EXPECT_EQ(observe("x", sidecar).count, 1);
}

TEST_F(EventCorrelatorTest, The_tenth_similar_message_in_ten_minutes_is_combined) {
    for (int i = 0; i < 9; ++i) EXPECT_EQ(observe("m" + std::to_string(i)).message, "m" + std::to_string(i));
    const EventPlan tenth = observe("m9");
    EXPECT_EQ(tenth.message, "(combined from similar events): m9");
    EXPECT_EQ(tenth.count, 1);
    const EventPlan eleventh = observe("m10");
    EXPECT_EQ(eleventh.message, "(combined from similar events): m10");
    EXPECT_EQ(eleventh.count, 2);
    EXPECT_EQ(eleventh.name, tenth.name);
    now += 601s;
    EXPECT_EQ(observe("m11").message, "m11");
}

TEST_F(EventCorrelatorTest, A_talkative_source_is_muted_after_25_and_gets_one_more_every_five_minutes) {
    for (int i = 0; i < 25; ++i) EXPECT_FALSE(observe("x").muted);
    EXPECT_TRUE(observe("x").muted);
    EventObject other = kPod;
    other.uid = "u2";
    EXPECT_FALSE(observe("x", other).muted);
    now += 300s;
    const EventPlan late = observe("x");
    EXPECT_FALSE(late.muted);
    EXPECT_EQ(late.count, 27);  // the muted one was counted
    EXPECT_TRUE(observe("x").muted);
}

TEST_F(EventCorrelatorTest, Memory_is_bounded_and_names_stay_within_253_bytes) {
    for (int i = 0; i < 10'000; ++i) {
        EventObject about = kPod;
        about.uid = std::to_string(i);
        observe("m", about);
    }
    EXPECT_LE(correlator.remembered(), 3U * 4096U);
    EventObject longest = kPod;
    longest.name = std::string(253, 'n');
    EXPECT_EQ(observe("m", longest).name.size(), 253U);
}

// A cluster's churn makes thousands of Events; their texts, of several hundred bytes each, must not stay.
TEST_F(EventCorrelatorTest, A_remembered_Event_costs_less_than_its_text) {
    constexpr int kEventCount = 1000;
    const std::string text(1000, 'm');
    const auto before = mallinfo2().uordblks;
    for (int i = 0; i < kEventCount; ++i) {
        EventObject about = kPod;
        about.uid = std::to_string(i);
        observe(text, about);
    }
    // 0 under a sanitizer, which has its own allocator.
    EXPECT_LT(mallinfo2().uordblks - before, kEventCount * text.size());
}

class EventRecorderTest : public testing::Test {
  protected:
    EventRecorderTest() { api.reply("POST", kEvents, 201, Json::object()); }
    std::vector<Json> posted(std::size_t count) {
        EXPECT_TRUE(api.wait_for_requests("POST", kEvents, count));
        std::vector<Json> bodies;
        for (const Request& request : api.requests("POST", kEvents))
            bodies.push_back(Json::parse(request.body));
        return bodies;
    }
    FakeClock clock;
    FakeTransport api;
    ApiClient client{api};
    EventRecorderOptions options{.component = "kubelet", .host = "k8s.gpu"};
};

TEST_F(EventRecorderTest, An_event_has_the_kubelets_shape) {
    EventRecorder recorder(client, clock, options);
    recorder.start();
    recorder.record(kPod, "Normal", "Pulled", "done");
    Json event = posted(1).at(0);
    EXPECT_THAT(event["metadata"]["name"].get<std::string>(), StartsWith("p."));
    event["metadata"].erase("name");
    EXPECT_EQ(event, Json::parse(R"({"apiVersion":"v1","kind":"Event","metadata":{"namespace":"a"},
        "involvedObject":{"apiVersion":"v1","kind":"Pod","namespace":"a","name":"p","uid":"u1","resourceVersion":"7",
                          "fieldPath":"spec.containers{main}"},
        "type":"Normal","reason":"Pulled","message":"done","source":{"component":"kubelet","host":"k8s.gpu"},
        "reportingComponent":"kubelet","reportingInstance":"k8s.gpu","count":1,
        "firstTimestamp":"2023-11-14T22:13:20Z","lastTimestamp":"2023-11-14T22:13:20Z"})"));
}

TEST_F(EventRecorderTest, A_repeat_is_a_patch_and_an_expired_one_is_written_again) {
    api.reply_once("PATCH", "/api/v1/namespaces/a/events/*", 200, Json::object());
    EventRecorder recorder(client, clock, options);
    recorder.start();
    for (int i = 0; i < 3; ++i) recorder.record(kPod, "Normal", "Pulled", "done");
    const auto events = posted(2);
    EXPECT_EQ(events[1]["count"], 3);
    EXPECT_EQ(events[1]["metadata"]["name"], events[0]["metadata"]["name"]);
    const auto patches = api.requests("PATCH", "/api/v1/namespaces/a/events/*");
    ASSERT_EQ(patches.size(), 2U);
    EXPECT_EQ(Json::parse(patches[0].body),
              Json::parse(R"({"count":2,"lastTimestamp":"2023-11-14T22:13:20Z","message":"done"})"));
}

TEST_F(EventRecorderTest, Events_of_cluster_scoped_objects_go_to_default) {
    api.reply("POST", "/api/v1/namespaces/default/events", 201, Json::object());
    EventRecorder recorder(client, clock, options);
    recorder.start();
    recorder.record(event_object(Json::parse(R"({"metadata":{"name":"k8s.gpu","uid":"n1"}})"), "Node"),
                    "Warning", "X", "m");
    EXPECT_TRUE(api.wait_for_requests("POST", "/api/v1/namespaces/default/events", 1));
}

TEST_F(EventRecorderTest, A_full_queue_drops_and_counts_and_never_blocks) {
    options.queue_limit = 3;
    EventRecorder recorder(client, clock, options);
    for (int i = 0; i < 5; ++i) recorder.record(kPod, "Normal", "R", std::to_string(i));
    EXPECT_EQ(recorder.dropped(), 2U);
    recorder.start();
    posted(3);
    recorder.stop();
    EXPECT_EQ(recorder.dropped(), 2U);
}

TEST_F(EventRecorderTest, An_unreachable_server_is_tried_again_and_a_refusal_is_not) {
    api.fail_once("POST", kEvents, {ErrorKind::Unavailable, "refused", {}, {}});
    EventRecorder recorder(client, clock, options);
    recorder.start();
    recorder.record(kPod, "Normal", "R", "m");
    ASSERT_TRUE(api.wait_for_requests("POST", kEvents, 1));
    ASSERT_TRUE(clock.wait_for_sleepers(1));
    clock.advance(10s);
    const auto events = posted(2);
    EXPECT_EQ(events[0]["metadata"]["name"], events[1]["metadata"]["name"]);

    api.reply_once("POST", kEvents, 403, {{"kind", "Status"}, {"reason", "Forbidden"}, {"message", "no"}});
    recorder.record(kPod, "Normal", "R", "n");
    posted(3);
    recorder.record(kPod, "Normal", "R", "o");
    posted(4);
    EXPECT_EQ(recorder.dropped(), 1U);
}

TEST_F(EventRecorderTest, Stop_writes_what_is_queued_and_then_ends) {
    EventRecorder recorder(client, clock, options);
    for (int i = 0; i < 3; ++i) recorder.record(kPod, "Normal", "R", std::to_string(i));
    recorder.start();
    recorder.stop();
    recorder.stop();
    EXPECT_EQ(api.requests("POST", kEvents).size(), 3U);
}

TEST_F(EventRecorderTest, Writes_keep_to_the_pace) {
    options.writes_per_second = 10;
    options.write_burst = 2;
    EventRecorder recorder(client, clock, options);
    recorder.start();
    for (int i = 0; i < 3; ++i) recorder.record(kPod, "Normal", "R", std::to_string(i));
    posted(2);
    ASSERT_TRUE(clock.wait_for_sleepers(1));
    EXPECT_EQ(api.requests("POST", kEvents).size(), 2U);
    clock.advance(101ms);
    posted(3);
}

}  // namespace
}  // namespace k8sgpu::kube
