#include "kubelet_api/client_ca.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>

#include "common/file.h"
#include "kube/testing/fake_transport.h"
#include "tests/unit/kubelet_api/test_ca.h"

namespace k8sgpu::kubelet_api {
namespace {

using namespace std::chrono_literals;

struct ClientCaTest : testing::Test {
    SystemClock clock;
    TestCa ca;
    ClientCa pool{clock, nullptr, {.from_config_map = false}};
    WallTime now = std::chrono::system_clock::now();
};

TEST_F(ClientCaTest, Knows_the_subject_of_a_certificate_that_it_signed) {
    ASSERT_TRUE(pool.set_file_pem(ca.pem()));
    const auto subject = pool.verify({ca.issue({"alice", {"dev", "ops"}}).der}, now);
    ASSERT_TRUE(subject);
    EXPECT_EQ(subject->common_name, "alice");
    EXPECT_EQ(subject->organizations, (std::vector<std::string>{"dev", "ops"}));
}

TEST_F(ClientCaTest, Refuses_what_it_cannot_verify) {
    EXPECT_EQ(pool.verify({ca.issue({"alice"}).der}, now).error().kind, ErrorKind::Unauthorized)
        << "empty pool";
    ASSERT_TRUE(pool.set_file_pem(ca.pem()));
    const std::string other = TestCa("other").issue({"alice"}).der;
    const std::string same_name = TestCa().issue({"alice"}).der;
    const std::string server_only = ca.issue({"alice", {}, "serverAuth"}).der;
    const std::string expired = ca.issue({"alice", {}, "clientAuth", "", now - 2h, now - 1h}).der;
    const std::string early = ca.issue({"alice", {}, "clientAuth", "", now + 1h, now + 2h}).der;
    for (const std::string& der : {other, same_name, server_only, expired, early, std::string("rubbish")}) {
        const auto subject = pool.verify({der}, now);
        ASSERT_FALSE(subject);
        EXPECT_EQ(subject.error().kind, ErrorKind::Unauthorized);
    }
    EXPECT_FALSE(pool.verify({}, now));
}

TEST_F(ClientCaTest, A_certificate_without_extended_usage_will_do) {
    ASSERT_TRUE(pool.set_file_pem(ca.pem()));
    EXPECT_TRUE(pool.verify({ca.issue({"alice", {}, ""}).der}, now));
}

TEST_F(ClientCaTest, Both_sources_count_and_bad_text_keeps_the_former_pool) {
    const TestCa second("second");
    ASSERT_TRUE(pool.set_file_pem(ca.pem()));
    ASSERT_TRUE(pool.set_config_map_pem(second.pem()));
    EXPECT_TRUE(pool.verify({ca.issue({"a"}).der}, now));
    EXPECT_TRUE(pool.verify({second.issue({"b"}).der}, now));
    EXPECT_FALSE(pool.set_config_map_pem("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"));
    EXPECT_TRUE(pool.verify({second.issue({"b"}).der}, now));
    ASSERT_TRUE(pool.set_config_map_pem(""));
    EXPECT_FALSE(pool.verify({second.issue({"b"}).der}, now));
}

TEST_F(ClientCaTest, A_changed_file_is_taken_up_while_running) {
    char path[] = "/tmp/k8sgpu-ca-XXXXXX";
    ::close(mkstemp(path));
    ASSERT_TRUE(replace_file(path, ca.pem(), 0600));
    FakeClock fake;
    std::atomic<int> changes{0};
    ClientCa followed(
        fake, nullptr,
        {.file = path, .from_config_map = false, .on_changed = [&](const std::string&) { ++changes; }});
    ASSERT_TRUE(followed.start());
    EXPECT_TRUE(followed.verify({ca.issue({"a"}).der}, now));
    const TestCa next("next");
    ASSERT_TRUE(replace_file(path, next.pem(), 0600));
    ASSERT_TRUE(fake.wait_for_sleepers(1));
    fake.advance(10s);
    for (int i = 0; i < 1000 && changes < 2; ++i) clock.sleep_for(Duration(10), {});
    EXPECT_TRUE(followed.verify({next.issue({"a"}).der}, now));
    EXPECT_FALSE(followed.verify({ca.issue({"a"}).der}, now));
    ASSERT_TRUE(replace_file(path, "broken", 0600));
    ASSERT_TRUE(fake.wait_for_sleepers(1));
    fake.advance(10s);
    EXPECT_TRUE(followed.verify({next.issue({"a"}).der}, now));
    EXPECT_EQ(changes, 2);
    followed.stop();
    unlink(path);
}

TEST_F(ClientCaTest, A_missing_file_stops_the_start) {
    ClientCa missing(clock, nullptr, {.file = "/nonexistent/ca.pem", .from_config_map = false});
    EXPECT_EQ(missing.start().error().kind, ErrorKind::NotFound);
}

TEST_F(ClientCaTest, The_config_map_is_followed) {
    FakeClock fake;
    kube::FakeTransport api;
    kube::ApiClient client(api);
    const Json map = {
        {"metadata",
         {{"name", "extension-apiserver-authentication"},
          {"namespace", "kube-system"},
          {"uid", "u"},
          {"resourceVersion", "3"}}},
        {"data", {{"client-ca-file", ca.pem()}, {"requestheader-client-ca-file", TestCa("front").pem()}}}};
    const std::string path = "/api/v1/namespaces/kube-system/configmaps";
    api.reply_once("GET", path, 200,
                   {{"kind", "ConfigMapList"},
                    {"apiVersion", "v1"},
                    {"metadata", {{"resourceVersion", "5"}}},
                    {"items", {map}}});
    auto watch = api.stream_once("GET", path);
    std::atomic<int> changes{0};
    ClientCa followed(fake, &client, {.on_changed = [&](const std::string&) { ++changes; }});
    ASSERT_TRUE(followed.start());
    ASSERT_TRUE(api.wait_for_requests("GET", path, 2));
    EXPECT_NE(api.requests("GET", path)[0].path.find(
                  "fieldSelector=metadata.name%3Dextension-apiserver-authentication"),
              std::string::npos);
    EXPECT_TRUE(followed.loaded());
    EXPECT_TRUE(followed.verify({ca.issue({"a"}).der}, now));
    EXPECT_FALSE(followed.verify({TestCa("front").issue({"a"}).der}, now))
        << "the front proxy's CA identifies nobody here";
    followed.stop();
}

}  // namespace
}  // namespace k8sgpu::kubelet_api
