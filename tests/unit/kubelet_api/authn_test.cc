#include "kubelet_api/authn.h"

#include <gtest/gtest.h>

#include "common/json.h"
#include "kube/testing/fake_transport.h"
#include "kubelet_api/client_ca.h"
#include "tests/unit/kubelet_api/test_ca.h"

namespace k8sgpu::kubelet_api {
namespace {

using namespace std::chrono_literals;

const std::string kPath = "/apis/authentication.k8s.io/v1/tokenreviews";

struct AuthnTest : testing::Test {
    AuthnTest() { EXPECT_TRUE(pool.set_file_pem(ca.pem())); }
    // FakeClock's wall time is 2023; certificates of these tests are valid then.
    TestIdentity identity(const std::string& cn, std::vector<std::string> orgs = {}) const {
        return ca.issue(
            {cn, std::move(orgs), "clientAuth", "", clock.wall_now() - 1h, clock.wall_now() + 1h});
    }
    std::size_t asked() const { return api.requests("POST", kPath).size(); }

    FakeClock clock;
    kube::FakeTransport api;
    kube::ApiClient client{api};
    TestCa ca{"test-ca"};
    ClientCa pool{clock, nullptr, {.from_config_map = false}};
    DelegatingAuthenticator authenticator{clock, client, pool};
    CallContext ctx = CallContext::until_stopped(clock, {});
    const Json known = {{"status",
                         {{"authenticated", true},
                          {"user",
                           {{"username", "system:serviceaccount:a:b"},
                            {"uid", "u1"},
                            {"groups", {"system:serviceaccounts"}},
                            {"extra", {{"k", {"v1", "v2"}}}}}}}}};
    const Json unknown = {{"status", {{"authenticated", false}, {"error", "expired"}}}};
};

TEST_F(AuthnTest, A_client_certificate_gives_user_and_groups) {
    const auto user =
        authenticator.authenticate({{identity("kube-apiserver", {"system:masters", "x"}).der}, {}}, ctx);
    ASSERT_TRUE(user);
    EXPECT_EQ(user->name, "kube-apiserver");
    EXPECT_EQ(user->groups, (std::vector<std::string>{"system:masters", "x", "system:authenticated"}));
    EXPECT_EQ(asked(), 0U);
}

TEST_F(AuthnTest, Nothing_presented_is_nobody) {
    EXPECT_EQ(authenticator.authenticate({}, ctx).error().kind, ErrorKind::Unauthorized);
    EXPECT_EQ(authenticator.authenticate({{}, ""}, ctx).error().kind, ErrorKind::Unauthorized);
    EXPECT_EQ(asked(), 0U);
}

TEST_F(AuthnTest, A_certificate_without_CN_is_nobody) {
    EXPECT_EQ(authenticator.authenticate({{identity("", {"system:masters"}).der}, {}}, ctx).error().kind,
              ErrorKind::Unauthorized);
}

TEST_F(AuthnTest, A_token_is_reviewed_without_audiences) {
    api.reply("POST", kPath, 201, known);
    const auto user = authenticator.authenticate({{}, "secret"}, ctx);
    ASSERT_TRUE(user);
    EXPECT_EQ(user->name, "system:serviceaccount:a:b");
    EXPECT_EQ(user->uid, "u1");
    EXPECT_EQ(user->groups, (std::vector<std::string>{"system:serviceaccounts", "system:authenticated"}));
    EXPECT_EQ(user->extra.at("k"), (std::vector<std::string>{"v1", "v2"}));
    const Json sent = *parse_json(api.requests("POST", kPath)[0].body, "review");
    EXPECT_EQ(sent["spec"], (Json{{"token", "secret"}}));
}

TEST_F(AuthnTest, Answers_are_remembered_for_two_minutes_both_ways) {
    for (const Json& answer : {known, unknown}) {
        const std::size_t before = asked();
        const std::string token = answer.dump();
        api.reply("POST", kPath, 201, answer);
        (void)authenticator.authenticate({{}, token}, ctx);
        (void)authenticator.authenticate({{}, token}, ctx);
        clock.advance(119s);
        (void)authenticator.authenticate({{}, token}, ctx);
        EXPECT_EQ(asked(), before + 1);
        clock.advance(1s);
        (void)authenticator.authenticate({{}, token}, ctx);
        EXPECT_EQ(asked(), before + 2);
    }
}

TEST_F(AuthnTest, One_tokens_answer_is_not_anothers) {
    api.reply_once("POST", kPath, 201, known);
    api.reply("POST", kPath, 201, unknown);
    EXPECT_TRUE(authenticator.authenticate({{}, "good"}, ctx));
    EXPECT_FALSE(authenticator.authenticate({{}, "bad"}, ctx));
    EXPECT_TRUE(authenticator.authenticate({{}, "good"}, ctx));
}

TEST_F(AuthnTest, A_failed_review_is_an_error_and_not_remembered) {
    api.reply_once("POST", kPath, 403, {{"kind", "Status"}, {"reason", "Forbidden"}, {"code", 403}});
    api.reply("POST", kPath, 201, known);
    const auto failed = authenticator.authenticate({{}, "t"}, ctx);
    ASSERT_FALSE(failed);
    EXPECT_EQ(failed.error().kind, ErrorKind::Forbidden);
    EXPECT_TRUE(authenticator.authenticate({{}, "t"}, ctx));
}

TEST_F(AuthnTest, A_review_that_time_may_heal_is_tried_five_times) {
    DelegatingAuthenticatorOptions quick;
    quick.retry = {Duration(0), Duration(0), 1.0, 0.0};
    DelegatingAuthenticator impatient(clock, client, pool, quick);
    api.reply("POST", kPath, 503, Json::object());
    EXPECT_EQ(impatient.authenticate({{}, "t"}, ctx).error().kind, ErrorKind::Unavailable);
    EXPECT_EQ(asked(), 5U);
}

TEST_F(AuthnTest, An_answer_without_a_name_is_nobody) {
    api.reply("POST", kPath, 201, {{"status", {{"authenticated", true}}}});
    EXPECT_EQ(authenticator.authenticate({{}, "t"}, ctx).error().kind, ErrorKind::Unauthorized);
}

TEST_F(AuthnTest, A_bad_certificate_does_not_hide_a_good_token) {
    api.reply("POST", kPath, 201, known);
    const TestCa other("other");
    EXPECT_TRUE(authenticator.authenticate({{other.issue({"x"}).der}, "t"}, ctx));
    EXPECT_FALSE(authenticator.authenticate({{other.issue({"x"}).der}, {}}, ctx));
}

}  // namespace
}  // namespace k8sgpu::kubelet_api
