#include "kube/credentials.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/encoding.h"
#include "kube/internal/exec_credentials.h"
#include "tests/unit/kube/temp_dir.h"
#include "tests/unit/kube/test_pki.h"

namespace k8sgpu::kube {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;
using testing::Not;

class CredentialsTest : public testing::Test {
  protected:
    CallContext ctx() { return CallContext::until_stopped(clock, stop.get_token()); }

    // A plugin that counts its runs and prints `token-<runs>` living for `seconds` of the fake clock's time.
    ClientConfig with_plugin(const std::string& status) {
        const std::string script =
            dir.write("plugin",
                      "#!/bin/sh\n"
                      "n=$(cat " +
                          dir.path("runs") +
                          " 2>/dev/null || echo 0)\n"
                          "n=$((n+1)); echo $n > " +
                          dir.path("runs") +
                          "\n"
                          "printf '%s' \"$KUBERNETES_EXEC_INFO\" > " +
                          dir.path("info") +
                          "\n"
                          "[ -e " +
                          dir.path("fail") +
                          " ] && { echo 'Unable to locate credentials' >&2; exit 3; }\n"
                          "cat <<EOT\n"
                          "{\"kind\":\"ExecCredential\",\"apiVersion\":\"client.authentication.k8s.io/"
                          "v1\",\"status\":{" +
                          status + "}}\nEOT\n",
                      0700);
        ClientConfig config;
        config.server = "https://h";
        config.exec.emplace();
        config.exec->api_version = "client.authentication.k8s.io/v1";
        config.exec->command = script;
        config.exec->args = {"a b", "c"};
        return config;
    }
    std::string expires_in(std::chrono::seconds seconds) {
        return "\"expirationTimestamp\":\"" + rfc3339_seconds(clock.wall_now() + seconds) + "\"";
    }
    int runs() {
        std::ifstream file(dir.path("runs"));
        int count = 0;
        file >> count;
        return count;
    }

    FakeClock clock;
    std::stop_source stop;
    TempDir dir;
};

TEST_F(CredentialsTest, A_token_and_a_password_become_the_header) {
    ClientConfig token;
    token.token = "abc";
    EXPECT_EQ(Credentials(token, clock).get(ctx())->authorization, "Bearer abc");
    ClientConfig basic;
    basic.username = "u";
    basic.password = "p";
    EXPECT_EQ(Credentials(basic, clock).get(ctx())->authorization, "Basic dTpw");
    EXPECT_EQ(Credentials(ClientConfig{}, clock).get(ctx())->authorization, "");
}

TEST_F(CredentialsTest, A_token_file_is_read_again_after_ten_seconds_or_a_rejection) {
    ClientConfig config;
    config.token_file = dir.write("token", "one\n");
    Credentials credentials(config, clock);
    const auto first = credentials.get(ctx());
    EXPECT_EQ(first->authorization, "Bearer one");
    dir.write("token", "two");
    EXPECT_EQ(credentials.get(ctx())->authorization, "Bearer one");
    clock.advance(11s);
    const auto second = credentials.get(ctx());
    EXPECT_EQ(second->authorization, "Bearer two");
    EXPECT_NE(second->version, first->version);
    dir.write("token", "three");
    credentials.reject(first->version);  // an old answer: nothing to do
    EXPECT_EQ(credentials.get(ctx())->version, second->version);
    credentials.reject(second->version);
    EXPECT_EQ(credentials.get(ctx())->authorization, "Bearer three");
}

TEST_F(CredentialsTest, A_token_file_that_vanishes_leaves_the_last_token_in_use) {
    ClientConfig config;
    config.token_file = dir.write("token", "one");
    Credentials credentials(config, clock);
    ASSERT_TRUE(credentials.get(ctx()));
    std::filesystem::remove(config.token_file);
    clock.advance(11s);
    EXPECT_EQ(credentials.get(ctx())->authorization, "Bearer one");

    Credentials never(config, clock);
    EXPECT_EQ(never.get(ctx()).error().kind, ErrorKind::NotFound);
}

TEST_F(CredentialsTest, A_token_with_line_breaks_never_reaches_a_header) {
    ClientConfig config;
    config.token = "abc\r\nX-Evil: 1";
    const auto refused = Credentials(config, clock).get(ctx());
    ASSERT_FALSE(refused);
    EXPECT_THAT(refused.error().message, Not(HasSubstr("Evil")));
}

TEST_F(CredentialsTest, A_half_rotated_certificate_keeps_the_old_pair) {
    const TestCa ca("ca");
    const TestPair one = ca.issue("one"), two = ca.issue("two");
    ClientConfig config;
    config.client_cert.file = dir.write("crt", one.cert);
    config.client_key.file = dir.write("key", one.key);
    Credentials credentials(config, clock);
    ASSERT_TRUE(credentials.get(ctx()));
    dir.write("crt", two.cert);
    clock.advance(11s);
    EXPECT_EQ(credentials.get(ctx())->client_cert, one.cert);
    dir.write("key", two.key);
    clock.advance(11s);
    EXPECT_EQ(credentials.get(ctx())->client_cert, two.cert);
    EXPECT_EQ(credentials.get(ctx())->client_key, two.key);
}

TEST_F(CredentialsTest, A_plugin_runs_once_until_its_credential_is_about_to_expire) {
    const ClientConfig config = with_plugin("\"token\":\"t-$n\"," + expires_in(600s));
    Credentials credentials(config, clock);
    const auto first = credentials.get(ctx());
    ASSERT_TRUE(first) << first.error().message;
    EXPECT_EQ(first->authorization, "Bearer t-1");
    EXPECT_EQ(credentials.get(ctx())->authorization, "Bearer t-1");
    EXPECT_EQ(runs(), 1);
    clock.advance(601s);
    // The script's expiry lies in the past now, which is refused rather than used.
    const auto expired = credentials.get(ctx());
    ASSERT_FALSE(expired);
    EXPECT_EQ(expired.error().kind, ErrorKind::Unauthorized);
    EXPECT_THAT(expired.error().message, HasSubstr("already expired"));
    EXPECT_EQ(runs(), 2);
}

TEST_F(CredentialsTest, A_plugin_gets_the_cluster_and_the_arguments_and_no_shell) {
    ClientConfig config = with_plugin("\"token\":\"$#-$1\"");
    config.exec->provide_cluster_info = true;
    config.exec->cluster_config = {{"audience", "x"}};
    const TestCa ca("ca");
    config.ca.pem = ca.cert();
    Credentials credentials(config, clock);
    EXPECT_EQ(credentials.get(ctx())->authorization, "Bearer 2-a b");
    std::ifstream file(dir.path("info"));
    const Json info = Json::parse(file);
    EXPECT_EQ(info["spec"]["interactive"], false);
    EXPECT_EQ(info["spec"]["cluster"]["server"], "https://h");
    EXPECT_EQ(info["spec"]["cluster"]["config"]["audience"], "x");
    EXPECT_EQ(info["spec"]["cluster"]["certificate-authority-data"], base64_encode(ca.cert()));
}

TEST_F(CredentialsTest, A_rejected_credential_is_fetched_again_but_not_in_a_circle) {
    Credentials credentials(with_plugin("\"token\":\"t-$n\""), clock);
    const auto first = credentials.get(ctx());
    credentials.reject(first->version);
    const auto second = credentials.get(ctx());
    EXPECT_EQ(second->authorization, "Bearer t-2");
    credentials.reject(second->version);
    EXPECT_EQ(credentials.get(ctx())->authorization, "Bearer t-2");
    clock.advance(11s);
    credentials.reject(second->version);
    EXPECT_EQ(credentials.get(ctx())->authorization, "Bearer t-3");
}

TEST_F(CredentialsTest, A_failing_plugin_says_why_and_is_left_alone_for_a_while) {
    dir.write("fail", "");
    Credentials credentials(with_plugin("\"token\":\"t\""), clock);
    const auto failed = credentials.get(ctx());
    ASSERT_FALSE(failed);
    EXPECT_EQ(failed.error().kind, ErrorKind::Unauthorized);
    EXPECT_THAT(failed.error().message, HasSubstr("exit code 3: Unable to locate credentials"));
    EXPECT_FALSE(credentials.get(ctx()));
    EXPECT_EQ(runs(), 1);
    std::filesystem::remove(dir.path("fail"));
    clock.advance(6s);
    EXPECT_EQ(credentials.get(ctx())->authorization, "Bearer t");
}

TEST_F(CredentialsTest, A_missing_plugin_gives_the_install_hint) {
    ClientConfig config = with_plugin("");
    config.exec->command = "no-such-plugin-k8sgpu";
    config.exec->install_hint = "install it from example.org\n";
    const auto failed = Credentials(config, clock).get(ctx());
    ASSERT_FALSE(failed);
    EXPECT_THAT(failed.error().message, HasSubstr("no such program; install it from example.org"));
}

TEST_F(CredentialsTest, A_plugin_may_give_a_client_certificate) {
    const TestPair pair = TestCa("ca").issue("alice");
    const Json quoted_cert = pair.cert, quoted_key = pair.key;
    ClientConfig config = with_plugin("");
    const Json answer = {{"kind", "ExecCredential"},
                         {"apiVersion", config.exec->api_version},
                         {"status", {{"clientCertificateData", pair.cert}, {"clientKeyData", pair.key}}}};
    dir.write("answer", answer.dump());
    config.exec->command = "cat";
    config.exec->args = {dir.path("answer")};
    Credentials credentials(config, clock);
    const auto credential = credentials.get(ctx());
    ASSERT_TRUE(credential) << credential.error().message;
    EXPECT_EQ(credential->client_cert, pair.cert);
    EXPECT_EQ(credential->authorization, "");
}

TEST_F(CredentialsTest, A_caller_need_not_outwait_a_slow_plugin) {
    ClientConfig config = with_plugin("");
    config.exec->command = "sleep";
    config.exec->args = {"600"};
    SystemClock real;
    Credentials credentials(config, real);
    const auto late = credentials.get(CallContext::with_timeout(real, 50ms, stop.get_token()));
    ASSERT_FALSE(late);
    EXPECT_EQ(late.error().kind, ErrorKind::Timeout);
}  // the destructor kills the plugin; the test's own time limit proves it

TEST(ExecCredential, Output_is_refused_with_the_field_but_never_its_value) {
    const std::string v1 = "client.authentication.k8s.io/v1";
    const auto message = [&](const std::string& status) {
        const auto parsed = parse_exec_credential(
            R"({"kind":"ExecCredential","apiVersion":"client.authentication.k8s.io/v1","status":{)" + status +
                "}}",
            v1);
        return parsed ? "no error" : parsed.error().message;
    };
    EXPECT_EQ(message(R"("token":"x","expirationTimestamp":"2030-01-01T00:00:00Z")"), "no error");
    EXPECT_THAT(message(R"("token":"")"), HasSubstr("neither token nor"));
    EXPECT_THAT(message(R"("token":"SECRET\n")"), Not(HasSubstr("SECRET")));
    EXPECT_THAT(message(R"("token":"x","expirationTimestamp":"tomorrow")"), HasSubstr("expirationTimestamp"));
    EXPECT_THAT(message(R"("clientCertificateData":"x")"), HasSubstr("must come together"));
    EXPECT_FALSE(parse_exec_credential("not json", v1));
    EXPECT_FALSE(parse_exec_credential(R"({"kind":"Other"})", v1));
    EXPECT_FALSE(
        parse_exec_credential(R"({"kind":"ExecCredential","apiVersion":"x/v1","status":{"token":"t"}})", v1));
}

}  // namespace
}  // namespace k8sgpu::kube
