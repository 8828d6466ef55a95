#include "kube/api_client.h"

#include <gtest/gtest.h>

#include "kube/testing/fake_transport.h"

namespace k8sgpu::kube {
namespace {

using namespace std::chrono_literals;

class ApiClientTest : public testing::Test {
  protected:
    CallContext ctx() { return CallContext::with_timeout(clock, 5s, stop.get_token()); }
    static Json status(int code, const char* reason, const char* message) {
        return {{"kind", "Status"},
                {"status", "Failure"},
                {"code", code},
                {"reason", reason},
                {"message", message}};
    }

    SystemClock clock;
    std::stop_source stop;
    FakeTransport transport;
    ApiClient client{transport};
};

TEST_F(ApiClientTest, Paths_name_group_namespace_object_and_subresource) {
    EXPECT_EQ(resource_path(resources::kPods, "a", "b", "status"), "/api/v1/namespaces/a/pods/b/status");
    EXPECT_EQ(resource_path(resources::kNodes, "", "n"), "/api/v1/nodes/n");
    EXPECT_EQ(resource_path(resources::kLeases, "kube-node-lease", ""),
              "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases");
    EXPECT_EQ(resource_path(resources::kPods, "a", "../x"), "/api/v1/namespaces/a/pods/..%2Fx");
}

TEST_F(ApiClientTest, A_list_gathers_all_pages_and_gives_items_their_kind) {
    transport.handle("GET", "/api/v1/namespaces/a/pods", [](const Request& request) -> Result<Response> {
        if (request.path.find("continue=next") != std::string::npos) {
            EXPECT_EQ(request.path.find("resourceVersion"), std::string::npos);
            return Response{
                200, {}, R"({"kind":"PodList","apiVersion":"v1","metadata":{"resourceVersion":"5"},
                "items":[{"metadata":{"name":"two"}}]})"};
        }
        return Response{200, {}, R"({"kind":"PodList","apiVersion":"v1","metadata":{"resourceVersion":"5",
            "continue":"next"},"items":[{"metadata":{"name":"one"}}]})"};
    });
    ListOptions options;
    options.field_selector = "spec.nodeName=k8s.gpu";
    options.resource_version = "0";
    options.limit = 1;
    const auto all = client.list_all(resources::kPods, "a", options, ctx());
    ASSERT_TRUE(all) << all.error().message;
    ASSERT_EQ(all->items.size(), 2U);
    EXPECT_EQ(all->items[1]["kind"], "Pod");
    EXPECT_EQ(all->items[1]["apiVersion"], "v1");
    EXPECT_EQ(all->resource_version, "5");
    EXPECT_EQ(transport.requests()[0].path,
              "/api/v1/namespaces/a/pods?fieldSelector=spec.nodeName%3Dk8s.gpu&resourceVersion=0&limit=1");
}

TEST_F(ApiClientTest, An_answer_that_is_no_list_never_reads_as_an_empty_one) {
    for (const char* body :
         {"{}", "[]", R"({"kind":"PodList","items":[]})",
          R"({"kind":"Pod","metadata":{"resourceVersion":"1"}})",
          R"({"kind":"PodList","metadata":{"resourceVersion":"1"},"items":{}})",
          R"({"kind":"PodList","metadata":{"resourceVersion":"1"},"items":[1]})", "<html>", ""}) {
        transport.handle_once("GET", "/api/v1/pods", [body](const Request&) -> Result<Response> {
            return Response{200, {}, body};
        });
        const auto list = client.list(resources::kPods, "", {}, ctx());
        ASSERT_FALSE(list) << body;
        EXPECT_EQ(list.error().kind, ErrorKind::Protocol) << body;
    }
}

TEST_F(ApiClientTest, Statuses_become_the_kind_that_callers_decide_on) {
    struct Case {
        int code;
        const char* reason;
        ErrorKind kind;
    };
    for (const Case& c :
         {Case{409, "AlreadyExists", ErrorKind::AlreadyExists}, Case{409, "Conflict", ErrorKind::Conflict},
          Case{410, "Expired", ErrorKind::Gone}, Case{404, "NotFound", ErrorKind::NotFound},
          Case{422, "Invalid", ErrorKind::Invalid}, Case{400, "BadRequest", ErrorKind::Invalid},
          Case{401, "Unauthorized", ErrorKind::Unauthorized}, Case{403, "Forbidden", ErrorKind::Forbidden},
          Case{429, "TooManyRequests", ErrorKind::Throttled},
          Case{500, "InternalError", ErrorKind::Unavailable},
          Case{503, "ServiceUnavailable", ErrorKind::Unavailable}, Case{504, "Timeout", ErrorKind::Timeout},
          Case{405, "MethodNotAllowed", ErrorKind::Unsupported}}) {
        transport.reply_once("POST", "/api/v1/namespaces/a/pods", c.code,
                             status(c.code, c.reason, "because"));
        const auto created = client.create(resources::kPods, "a", Json::object(), ctx());
        ASSERT_FALSE(created);
        EXPECT_EQ(created.error().kind, c.kind) << c.reason;
        EXPECT_EQ(created.error().message, "because");
        EXPECT_EQ(created.error().http_status, c.code);
    }
}

TEST(StatusError, Retry_after_comes_from_the_header_or_the_details) {
    const Error by_header = error_from_response(429, {{"retry-after", "7"}}, "");
    EXPECT_EQ(by_header.kind, ErrorKind::Throttled);
    EXPECT_EQ(by_header.retry_after, std::chrono::milliseconds(7000));
    const Error by_details = error_from_response(
        500, {},
        R"({"kind":"Status","reason":"ServerTimeout","message":"m","details":{"retryAfterSeconds":2}})");
    EXPECT_EQ(by_details.retry_after, std::chrono::milliseconds(2000));
    EXPECT_EQ(error_from_response(429, {{"retry-after", "99999999"}}, "").retry_after, std::chrono::hours(1));
    EXPECT_FALSE(error_from_response(429, {{"retry-after", "Wed, 21 Oct"}}, "").retry_after);
}

TEST(StatusError, A_body_that_is_no_status_gives_its_first_line) {
    EXPECT_EQ(error_from_response(404, {}, "404 page not found\n").message,
              "http status 404: 404 page not found");
    EXPECT_EQ(error_from_response(502, {}, "").message, "http status 502");
    EXPECT_EQ(error_from_response(502, {}, "").kind, ErrorKind::Unavailable);
    EXPECT_EQ(error_from_response(403, {}, "a\tb\nc").message, "http status 403: a b");
}

TEST_F(ApiClientTest, A_delete_carries_the_uid_precondition_and_the_grace) {
    transport.reply("DELETE", "/api/v1/namespaces/a/pods/p", 200,
                    {{"kind", "Status"}, {"status", "Success"}});
    DeleteOptions options;
    options.uid = "u1";
    options.grace = 0s;
    ASSERT_TRUE(client.remove(resources::kPods, "a", "p", options, ctx()));
    EXPECT_EQ(Json::parse(transport.requests()[0].body),
              Json::parse(R"({"kind":"DeleteOptions","apiVersion":"v1","gracePeriodSeconds":0,
                              "preconditions":{"uid":"u1"}})"));
}

TEST_F(ApiClientTest, A_patch_says_its_type_and_reaches_the_subresource) {
    transport.reply("PATCH", "/api/v1/nodes/n/status", 200, Json::object());
    ASSERT_TRUE(
        client.patch(resources::kNodes, "", "n", PatchType::StrategicMerge, {{"a", 1}}, ctx(), "status"));
    const Request request = transport.requests()[0];
    EXPECT_EQ(request.headers.find("content-type")->second, "application/strategic-merge-patch+json");
    EXPECT_EQ(request.body, R"({"a":1})");
}

TEST_F(ApiClientTest, A_watch_asks_for_bookmarks_and_turns_a_bad_status_into_an_error) {
    auto stream = transport.stream_once("GET", "/api/v1/pods");
    ListOptions options;
    options.resource_version = "9";
    auto watch = client.watch(resources::kPods, "", options, 300s, ctx());
    ASSERT_TRUE(watch);
    EXPECT_EQ(transport.requests()[0].path,
              "/api/v1/pods?watch=true&allowWatchBookmarks=true&resourceVersion=9&timeoutSeconds=300");
    stream->push("x");
    EXPECT_EQ(*(*watch)->next(ctx()), "x");

    transport.reply_once("GET", "/api/v1/pods", 410, status(410, "Expired", "too old resource version"));
    const auto refused = client.watch(resources::kPods, "", options, 300s, ctx());
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().kind, ErrorKind::Gone);
    EXPECT_EQ(refused.error().message, "too old resource version");
}

TEST_F(ApiClientTest, Unknown_fields_survive_a_round_trip) {
    const Json node = Json::parse(R"({"metadata":{"name":"n"},"spec":{"fromTheFuture":{"a":[1,2.5,null]}}})");
    transport.reply("GET", "/api/v1/nodes/n", 200, node);
    transport.handle("PUT", "/api/v1/nodes/n", [](const Request& r) -> Result<Response> {
        return Response{200, {}, r.body};
    });
    const auto read = client.get(resources::kNodes, "", "n", ctx());
    ASSERT_TRUE(read);
    EXPECT_EQ(*client.replace(resources::kNodes, "", "n", *read, ctx()), node);
}

}  // namespace
}  // namespace k8sgpu::kube
