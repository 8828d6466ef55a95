#include "kube/curl_transport.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>
#include <thread>

#include "net/socket_stream.h"
#include "tests/unit/kube/curl_fixture.h"
#include "tests/unit/kube/temp_dir.h"

namespace k8sgpu::kube {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;
using testing::Not;

TEST_F(CurlTransportTest, Requests_carry_method_body_identity_and_reuse_the_connection) {
    FakeApiServer server(echo);
    ClientConfig config = config_for(server.url() + "/prefix/");
    config.token = "t0ken";
    config.impersonation = {
        {"impersonate-user", "a"}, {"impersonate-group", "g"}, {"impersonate-group", "h"}};
    CurlTransportOptions options;
    options.user_agent = "k8sgpu/1.2.3";
    const auto client = transport(config, options);
    for (const char* method : {"GET", "POST", "PUT", "PATCH", "DELETE"}) {
        Request request;
        request.method = method;
        request.path = "/api/v1/x?a=%2F..";
        if (std::string(method) != "GET") request.body = std::string(2U << 20U, 'b');
        const auto response = client->send(request, ctx());
        ASSERT_TRUE(response) << response.error().message;
        const Json seen = Json::parse(response->body);
        EXPECT_EQ(seen["method"], method);
        EXPECT_EQ(seen["target"], "/prefix/api/v1/x?a=%2F..");
        EXPECT_EQ(seen["body"], request.body);
        EXPECT_EQ(seen["auth"], "Bearer t0ken");
        EXPECT_EQ(seen["agent"], "k8sgpu/1.2.3");
        EXPECT_EQ(seen["accept"], "application/json");
        EXPECT_EQ(seen["expect"], "");
        EXPECT_EQ(seen["group"], 2);
        EXPECT_EQ(response->headers.find("x-seen")->second, "Yes");
    }
    EXPECT_EQ(server.connections(), 1);
}

TEST_F(CurlTransportTest, Many_threads_share_one_transport) {
    FakeApiServer server(echo);
    const auto client = transport(config_for(server.url()));
    std::vector<Thread> threads;
    std::atomic<int> good{0};
    for (int i = 0; i < 8; ++i) {
        threads.emplace_back("t", [&, i](const std::stop_token&) {
            for (int k = 0; k < 20; ++k) {
                const std::string path = "/" + std::to_string(i) + "/" + std::to_string(k);
                const auto response = get(*client, path);
                if (response && Json::parse(response->body)["target"] == path) ++good;
            }
        });
    }
    for (Thread& thread : threads) thread.join();
    EXPECT_EQ(good, 160);
}

TEST_F(CurlTransportTest, A_connection_that_the_server_closed_while_idle_is_replaced) {
    FakeApiServer server([](FakeApiServer::Call& call) {
        echo(call);
        return false;
    });
    const auto client = transport(config_for(server.url()));
    for (int i = 0; i < 20; ++i) {
        Request request;
        request.method = "POST";
        request.path = "/";
        request.body = "once";
        const auto response = client->send(request, ctx());
        ASSERT_TRUE(response) << response.error().message;
        EXPECT_EQ(Json::parse(response->body)["body"], "once");
    }
    EXPECT_EQ(server.connections(), 20);
}

TEST_F(CurlTransportTest, A_header_that_would_break_its_line_is_refused) {
    FakeApiServer server(echo);
    const auto client = transport(config_for(server.url()));
    Request request;
    request.headers.emplace("x-a", "b\r\nx-c: d");
    EXPECT_EQ(client->send(request, ctx()).error().kind, ErrorKind::Invalid);
    request.headers.clear();
    request.path = "/a b";
    EXPECT_EQ(client->send(request, ctx()).error().kind, ErrorKind::Invalid);
    EXPECT_EQ(server.connections(), 0);
}

TEST_F(CurlTransportTest, A_refused_connection_and_an_unknown_name_are_unavailable_and_named) {
    std::uint16_t port = 0;
    {
        FakeApiServer gone(echo);
        port = gone.port();
    }
    const auto client = transport(config_for("https://127.0.0.1:" + std::to_string(port)));
    const auto refused = get(*client);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().kind, ErrorKind::Unavailable);
    EXPECT_EQ(refused.error().message,
              "connecting to 127.0.0.1:" + std::to_string(port) + ": Connection refused");

    const auto unknown = get(*transport(config_for("https://no-such-host.invalid")));
    ASSERT_FALSE(unknown);
    EXPECT_EQ(unknown.error().kind, ErrorKind::Unavailable);
    EXPECT_THAT(unknown.error().message, HasSubstr("no-such-host.invalid"));
}

TEST_F(CurlTransportTest, A_silent_server_costs_no_more_than_the_deadline_and_a_stop_ends_the_wait) {
    FakeApiServer server([](FakeApiServer::Call& call) {
        call.wait_until_stopped();
        return false;
    });
    const auto client = transport(config_for(server.url()));
    const auto late = client->send(Request{}, ctx(50ms));
    ASSERT_FALSE(late);
    EXPECT_EQ(late.error().kind, ErrorKind::Invalid);  // an empty path
    Request request;
    request.path = "/";
    const auto timeout = client->send(request, ctx(50ms));
    ASSERT_FALSE(timeout);
    EXPECT_EQ(timeout.error().kind, ErrorKind::Timeout);
    std::jthread stopper([&] { stop.request_stop(); });
    const auto stopped = client->send(request, CallContext::until_stopped(clock, stop.get_token()));
    ASSERT_FALSE(stopped);
    EXPECT_EQ(stopped.error().kind, ErrorKind::Cancelled);
}

TEST_F(CurlTransportTest, Stopping_the_transport_ends_what_is_in_flight) {
    FakeApiServer server([](FakeApiServer::Call& call) {
        call.wait_until_stopped();
        return false;
    });
    const auto client = transport(config_for(server.url()));
    std::optional<Result<Response>> answer;
    {
        Thread caller("caller", [&](const std::stop_token&) { answer = get(*client); });
        client->stop();
    }
    EXPECT_EQ(answer->error().kind, ErrorKind::Cancelled);
    EXPECT_EQ(get(*client).error().kind, ErrorKind::Cancelled);
    client->stop();
}

TEST_F(CurlTransportTest, An_oversized_body_is_a_protocol_error) {
    FakeApiServer server([](FakeApiServer::Call& call) {
        call.reply(200, std::string(100'000, 'x'));
        return true;
    });
    CurlTransportOptions options;
    options.max_body = 50'000;
    const auto refused = get(*transport(config_for(server.url()), options));
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().kind, ErrorKind::Protocol);
    EXPECT_THAT(refused.error().message, HasSubstr("larger than 50000 bytes"));
}

TEST_F(CurlTransportTest, A_token_file_is_read_again_on_401_and_the_request_repeated_once) {
    TempDir dir;
    int asked = 0;
    FakeApiServer server([&](FakeApiServer::Call& call) {
        ++asked;
        call.reply(call.header("authorization") == "Bearer new" ? 200 : 401, "{}");
        return true;
    });
    ClientConfig config = config_for(server.url());
    config.token_file = dir.write("token", "old");
    const auto client = transport(config);
    EXPECT_EQ(get(*client)->status, 401);
    EXPECT_EQ(asked, 1);  // the same token again would be pointless
    dir.write("token", "new");
    EXPECT_EQ(get(*client)->status, 200);
    EXPECT_EQ(asked, 3);
}

TEST_F(CurlTransportTest, An_exec_plugin_is_run_again_on_401) {
    TempDir dir;
    FakeApiServer server([&](FakeApiServer::Call& call) {
        call.reply(call.header("authorization") == "Bearer t-2" ? 200 : 401, "{}");
        return true;
    });
    ClientConfig config = config_for(server.url());
    config.exec.emplace();
    config.exec->api_version = "client.authentication.k8s.io/v1beta1";
    config.exec->command = dir.write(
        "plugin",
        "#!/bin/sh\necho x >> " + dir.path("runs") +
            "\n"
            "echo '{\"kind\":\"ExecCredential\",\"apiVersion\":\"client.authentication.k8s.io/v1beta1\","
            "\"status\":{\"token\":\"t-'$(wc -l < " +
            dir.path("runs") + ")'\"}}'\n",
        0700);
    const auto client = transport(config);
    const auto response = get(*client);
    ASSERT_TRUE(response) << response.error().message;
    EXPECT_EQ(response->status, 200);
    EXPECT_EQ(get(*client)->status, 200);
    EXPECT_EQ(std::filesystem::file_size(dir.path("runs")), 4U);
}

TEST_F(CurlTransportTest, Tls_with_client_certificates_and_a_reconfiguration) {
    FakeApiServer server(echo, ServerTls{ca.issue("server", {"IP:127.0.0.1"}), ca.cert()});
    ClientConfig config = config_for(server.url());
    config.ca.pem = ca.cert();
    const TestPair alice = ca.issue("alice"), bob = ca.issue("bob");
    config.client_cert.pem = alice.cert;
    config.client_key.pem = alice.key;
    const auto client = transport(config);
    const auto response = get(*client);
    ASSERT_TRUE(response) << response.error().message;
    EXPECT_EQ(Json::parse(response->body)["cn"], "alice");

    config.client_cert.pem = bob.cert;
    config.client_key.pem = bob.key;
    ASSERT_TRUE(client->reconfigure(config));
    EXPECT_EQ(Json::parse(get(*client)->body)["cn"], "bob");
    config.server = "nonsense";
    EXPECT_FALSE(client->reconfigure(config));
    EXPECT_EQ(Json::parse(get(*client)->body)["cn"], "bob");
}

TEST_F(CurlTransportTest, The_wrong_ca_is_a_tls_failure_that_says_what_to_check) {
    FakeApiServer server(echo, ServerTls{ca.issue("server", {"IP:127.0.0.1"}), ""});
    ClientConfig config = config_for(server.url());
    config.ca.pem = TestCa("another ca").cert();
    const auto refused = get(*transport(config));
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().kind, ErrorKind::TlsFailure);
    EXPECT_THAT(refused.error().message, HasSubstr("127.0.0.1:" + std::to_string(server.port())));
    EXPECT_THAT(refused.error().message, HasSubstr("certificate-authority of the test"));

    config.ca.pem.clear();
    EXPECT_EQ(get(*transport(config)).error().kind, ErrorKind::TlsFailure);
    config.insecure_skip_tls_verify = true;
    EXPECT_TRUE(get(*transport(config)));
}

TEST_F(CurlTransportTest, A_server_without_tls_behind_https_says_so) {
    ConnectionServer plain([](net::Fd fd, const CallContext& serving) {
        net::SocketStream stream(std::move(fd));
        char byte = 0;
        (void)stream.read(std::span(&byte, 1), serving).has_value();
        (void)stream.write("HTTP/1.1 400 Bad Request\r\n\r\n", serving).has_value();
    });
    const auto refused = get(*transport(config_for("https://127.0.0.1:" + std::to_string(plain.port()))));
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().kind, ErrorKind::TlsFailure);
    EXPECT_THAT(refused.error().message, HasSubstr("does not speak TLS"));
}

TEST_F(CurlTransportTest, The_tls_server_name_is_what_is_verified_and_sent) {
    FakeApiServer server(echo, ServerTls{ca.issue("server", {"DNS:api.example"}), ""});
    ClientConfig config = config_for(server.url());
    config.ca.pem = ca.cert();
    const auto mismatch = get(*transport(config));
    ASSERT_FALSE(mismatch);
    EXPECT_EQ(mismatch.error().kind, ErrorKind::TlsFailure);
    EXPECT_THAT(mismatch.error().message, HasSubstr("set tls-server-name"));

    config.tls_server_name = "api.example";
    const auto response = get(*transport(config));
    ASSERT_TRUE(response) << response.error().message;
    EXPECT_EQ(server.sni(), "api.example");
    EXPECT_EQ(Json::parse(response->body)["host"], "127.0.0.1:" + std::to_string(server.port()));
}

TEST_F(CurlTransportTest, A_proxy_url_is_tunnelled_through_with_its_password) {
    FakeApiServer server(echo, ServerTls{ca.issue("server", {"DNS:api.internal"}), ""});
    FakeProxy proxy(server.port());
    ClientConfig config = config_for("https://api.internal:6443");
    config.ca.pem = ca.cert();
    config.token = "secret";
    config.proxy_url = proxy.url("user:pass");
    const auto response = get(*transport(config));
    ASSERT_TRUE(response) << response.error().message;
    EXPECT_EQ(proxy.asked_for(), "CONNECT api.internal:6443");
    EXPECT_EQ(proxy.authorization(), "Basic dXNlcjpwYXNz");

    FakeProxy refusing(server.port(), 403);
    config.proxy_url = refusing.url("user:pass");
    const auto refused = get(*transport(config));
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().kind, ErrorKind::Unavailable);
    EXPECT_THAT(refused.error().message, HasSubstr("by proxy 127.0.0.1:"));
    EXPECT_THAT(refused.error().message, HasSubstr("403"));
    EXPECT_THAT(refused.error().message, Not(HasSubstr("pass")));
}

}  // namespace
}  // namespace k8sgpu::kube
