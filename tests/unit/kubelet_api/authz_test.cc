#include "kubelet_api/authz.h"

#include <gtest/gtest.h>

#include "common/json.h"
#include "kube/testing/fake_transport.h"

namespace k8sgpu::kubelet_api {
namespace {

using namespace std::chrono_literals;

const std::string kPath = "/apis/authorization.k8s.io/v1/subjectaccessreviews";

TEST(AccessAttributes, Follow_the_kubelets_table) {
    struct Row {
        const char* path;
        std::vector<std::string> subresources;
    };
    const Row rows[] = {
        {"/stats/summary", {"stats"}},
        {"/metrics", {"metrics"}},
        {"/metrics/cadvisor", {"metrics"}},
        {"/logs/x", {"log"}},
        {"/checkpoint/a/b/c", {"checkpoint"}},
        {"/statusz", {"statusz"}},
        {"/flagz", {"configz"}},
        {"/pods", {"pods", "proxy"}},
        {"/runningpods/", {"pods", "proxy"}},
        {"/healthz", {"healthz", "proxy"}},
        {"/healthz/ping", {"healthz", "proxy"}},
        {"/configz", {"configz", "proxy"}},
        {"/exec/a/b/c", {"proxy"}},
        {"/containerLogs/a/b/c", {"proxy"}},
        {"/metricsx", {"proxy"}},
        {"/", {"proxy"}},
        {"", {"proxy"}},
        {"/podsecrets", {"proxy"}},
    };
    for (const Row& row : rows)
        EXPECT_EQ(access_attributes("GET", row.path).subresources, row.subresources) << row.path;
}

TEST(AccessAttributes, Methods_become_verbs) {
    EXPECT_EQ(access_attributes("GET", "/").verb, "get");
    EXPECT_EQ(access_attributes("POST", "/").verb, "create");
    EXPECT_EQ(access_attributes("PUT", "/").verb, "update");
    EXPECT_EQ(access_attributes("PATCH", "/").verb, "patch");
    EXPECT_EQ(access_attributes("DELETE", "/").verb, "delete");
    EXPECT_EQ(access_attributes("HEAD", "/").verb, "");
    EXPECT_EQ(access_attributes("OPTIONS", "/").verb, "");
}

struct AuthzTest : testing::Test {
    SarAuthorizerOptions options = [] {
        SarAuthorizerOptions o;
        o.node_name = "k8s.gpu";
        o.retry = {Duration(0), Duration(0), 1.0, 0.0};
        return o;
    }();
    FakeClock clock;
    kube::FakeTransport api;
    kube::ApiClient client{api};
    SarAuthorizer authorizer{clock, client, options};
    CallContext ctx = CallContext::until_stopped(clock, {});
    User user{"alice", "u1", {"dev", "system:authenticated"}, {{"k", {"v"}}}};

    std::size_t asked() const { return api.requests("POST", kPath).size(); }
    Json sent(std::size_t i) const { return *parse_json(api.requests("POST", kPath)[i].body, "review"); }
    void answer(bool allowed) { api.reply("POST", kPath, 201, {{"status", {{"allowed", allowed}}}}); }
};

TEST_F(AuthzTest, Asks_with_the_attributes_of_a_node) {
    answer(true);
    EXPECT_TRUE(authorizer.authorize(user, access_attributes("POST", "/exec/a/b/c"), ctx));
    EXPECT_EQ(sent(0)["spec"], (Json{{"user", "alice"},
                                     {"uid", "u1"},
                                     {"groups", {"dev", "system:authenticated"}},
                                     {"extra", {{"k", {"v"}}}},
                                     {"resourceAttributes",
                                      {{"verb", "create"},
                                       {"version", "v1"},
                                       {"resource", "nodes"},
                                       {"subresource", "proxy"},
                                       {"name", "k8s.gpu"}}}}));
}

TEST_F(AuthzTest, A_refusal_lists_everything_that_was_asked) {
    answer(false);
    const auto refused = authorizer.authorize(user, access_attributes("GET", "/pods"), ctx);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().kind, ErrorKind::Forbidden);
    EXPECT_EQ(refused.error().message,
              "Forbidden (user=alice, verb=get, resource=nodes, subresource(s)=[pods proxy])\n");
    EXPECT_EQ(asked(), 2U);
}

TEST_F(AuthzTest, The_first_allowed_subresource_is_enough) {
    api.reply_once("POST", kPath, 201, {{"status", {{"allowed", false}}}});
    answer(true);
    EXPECT_TRUE(authorizer.authorize(user, access_attributes("GET", "/healthz"), ctx));
    EXPECT_EQ(sent(0)["spec"]["resourceAttributes"]["subresource"], "healthz");
    EXPECT_EQ(sent(1)["spec"]["resourceAttributes"]["subresource"], "proxy");
}

TEST_F(AuthzTest, A_failed_review_never_opens) {
    for (const int status : {403, 500, 503, 429}) {
        api.reply("POST", kPath, status, Json::object());
        const auto failed = authorizer.authorize(user, access_attributes("GET", "/metrics"), ctx);
        ASSERT_FALSE(failed);
        EXPECT_NE(failed.error().kind, ErrorKind::Forbidden);
        EXPECT_EQ(failed.error().message,
                  "Authorization error (user=alice, verb=get, resource=nodes, subresource=metrics)");
    }
    api.reply("POST", kPath, 201, Json::object());
    EXPECT_FALSE(authorizer.authorize(user, access_attributes("GET", "/metrics"), ctx));
    api.reply("POST", kPath, 201, {{"status", {{"allowed", "true"}}}});
    EXPECT_FALSE(authorizer.authorize(user, access_attributes("GET", "/stats"), ctx));
}

TEST_F(AuthzTest, Permissions_are_remembered_for_five_minutes_refusals_for_thirty_seconds) {
    const auto attributes = access_attributes("GET", "/metrics");
    answer(true);
    (void)authorizer.authorize(user, attributes, ctx);
    clock.advance(299s);
    (void)authorizer.authorize(user, attributes, ctx);
    EXPECT_EQ(asked(), 1U);
    answer(false);
    clock.advance(1s);
    EXPECT_FALSE(authorizer.authorize(user, attributes, ctx));
    EXPECT_EQ(asked(), 2U);
    clock.advance(29s);
    EXPECT_FALSE(authorizer.authorize(user, attributes, ctx));
    EXPECT_EQ(asked(), 2U);
    answer(true);
    clock.advance(1s);
    EXPECT_TRUE(authorizer.authorize(user, attributes, ctx));
}

TEST_F(AuthzTest, Every_part_of_the_question_tells_answers_apart) {
    const auto attributes = access_attributes("GET", "/metrics");
    answer(true);
    ASSERT_TRUE(authorizer.authorize(user, attributes, ctx));
    answer(false);
    User other = user;
    other.groups.pop_back();
    EXPECT_FALSE(authorizer.authorize(other, attributes, ctx));
    other = user;
    other.extra["k"] = {"w"};
    EXPECT_FALSE(authorizer.authorize(other, attributes, ctx));
    EXPECT_FALSE(authorizer.authorize(user, access_attributes("POST", "/metrics"), ctx));
    EXPECT_TRUE(authorizer.authorize(user, attributes, ctx));
}

TEST_F(AuthzTest, Huge_questions_are_asked_every_time) {
    answer(true);
    user.groups.emplace_back(10'000, 'g');
    (void)authorizer.authorize(user, access_attributes("GET", "/metrics"), ctx);
    (void)authorizer.authorize(user, access_attributes("GET", "/metrics"), ctx);
    EXPECT_EQ(asked(), 2U);
}

}  // namespace
}  // namespace k8sgpu::kubelet_api
