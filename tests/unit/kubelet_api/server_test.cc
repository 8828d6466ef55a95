#include "kubelet_api/server.h"

#include "common/json.h"
#include "tests/unit/kubelet_api/api_fixture.h"

namespace k8sgpu::kubelet_api {
namespace {

using namespace std::chrono_literals;

using ServerTest = ApiTest;

const char kGood[] = "Authorization: Bearer good\r\nConnection: close\r\n\r\n";

TEST_F(ServerTest, Nobody_gets_401_with_the_bare_word) {
    start();
    auto c = client();
    c->set_bearer_token_auth("wrong");
    for (const char* path : {"/pods", "/healthz", "/nothing"}) {
        const auto answer = c->Get(path);
        ASSERT_TRUE(answer);
        EXPECT_EQ(answer->status, 401);
        EXPECT_EQ(answer->body, "Unauthorized");
    }
    EXPECT_TRUE(authorizer.asked.lock()->empty());
}

TEST_F(ServerTest, A_refusal_is_403_with_its_text_and_a_failed_review_500) {
    start();
    *authorizer.answer.lock() = Error{ErrorKind::Forbidden, "Forbidden (user=x)\n", {}, {}};
    auto answer = client()->Get("/pods");
    ASSERT_TRUE(answer);
    EXPECT_EQ(answer->status, 403);
    EXPECT_EQ(answer->body, "Forbidden (user=x)\n");
    EXPECT_EQ(answer->get_header_value("X-Content-Type-Options"), "nosniff");
    *authorizer.answer.lock() = Error{ErrorKind::Unavailable, "Authorization error (user=x)", {}, {}};
    answer = client()->Get("/pods");
    ASSERT_TRUE(answer);
    EXPECT_EQ(answer->status, 500);
    EXPECT_EQ(answer->body, "Authorization error (user=x)\n");
}

TEST_F(ServerTest, Client_certificates_reach_the_authenticator) {
    start();
    const auto with_certificate = client_context(ca.issue({"alice"}));
    auto fd = net::dial("127.0.0.1", server->port(), ctx);
    ASSERT_TRUE(fd);
    auto stream = net::TlsStream::connect(std::move(*fd), *with_certificate, "127.0.0.1", ctx);
    ASSERT_TRUE(stream) << stream.error().message;
    ASSERT_TRUE((*stream)->write("GET /healthz HTTP/1.1\r\nHost: n\r\nConnection: close\r\n\r\n", ctx));
    EXPECT_TRUE(read_all(**stream).starts_with("HTTP/1.1 200 "));
    EXPECT_EQ(authorizer.asked.lock()->front(), "by-certificate get healthz");
}

TEST_F(ServerTest, Paths_and_methods_that_do_not_exist) {
    start();
    auto c = client();
    EXPECT_EQ(c->Get("/nothing")->body, "404 page not found\n");
    EXPECT_EQ(c->Get("/nothing")->status, 404);
    EXPECT_EQ(c->Get("/metrics/none")->body, "404: Page Not Found");
    EXPECT_EQ(c->Delete("/pods")->status, 405);
    EXPECT_EQ(c->Delete("/pods")->body, "405: Method Not Allowed");
    EXPECT_EQ(c->Get("/logs/")->body, "logs endpoint is disabled.\n");
    EXPECT_EQ(c->Get("/debug/pprof/")->status, 405);
    EXPECT_EQ(c->Get("/metrics/../exec/ns/p/c")->status, 404);
}

TEST_F(ServerTest, Health_follows_the_sync_loop) {
    start();
    auto c = client();
    EXPECT_EQ(c->Get("/healthz")->body, "ok");
    EXPECT_EQ(c->Get("/healthz?verbose")->body,
              "[+]ping ok\n[+]log ok\n[+]syncloop ok\nhealthz check passed\n");
    *health.lock() = fail(ErrorKind::Internal, "stuck");
    EXPECT_EQ(c->Get("/healthz")->status, 500);
    EXPECT_EQ(c->Get("/healthz")->body,
              "[+]ping ok\n[+]log ok\n[-]syncloop failed: reason withheld\nhealthz check failed\n");
    EXPECT_EQ(c->Get("/healthz?exclude=syncloop")->status, 200);
    EXPECT_EQ(c->Get("/healthz/ping")->body, "ok");
    EXPECT_EQ(c->Get("/healthz/syncloop")->body, "internal server error: stuck\n");
    EXPECT_EQ(c->Get("/healthz/none")->status, 404);
}

TEST_F(ServerTest, Lists_pods_metrics_and_configuration) {
    start();
    auto c = client();
    const Json list = *parse_json(c->Get("/pods")->body, "pods");
    EXPECT_EQ(list["kind"], "PodList");
    ASSERT_EQ(list["items"].size(), 1U);
    EXPECT_EQ(list["items"][0], *pods.list()[0].pod);
    const Json running = *parse_json(c->Get("/runningpods/")->body, "pods");
    ASSERT_EQ(running["items"].size(), 1U);
    EXPECT_EQ(running["items"][0]["spec"]["containers"].size(), 1U);
    EXPECT_EQ(c->Get("/pods")->get_header_value("Content-Type"), "application/json");
    const Json config = *parse_json(c->Get("/configz")->body, "configz");
    EXPECT_EQ(config["kubeletconfig"]["maxPods"], 110);
    EXPECT_EQ(config["kubeletconfig"]["kind"], "KubeletConfiguration");
    const auto metrics = c->Get("/metrics");
    EXPECT_NE(metrics->body.find("kubelet_http_requests_total{"), std::string::npos);
    EXPECT_NE(metrics->body.find("path=\"pods\""), std::string::npos);
}

TEST_F(ServerTest, Keeps_a_connection_for_the_next_request_and_serves_pipelined_ones) {
    start();
    const std::string answer = talk(
        "GET /healthz HTTP/1.1\r\nHost: n\r\nAuthorization: Bearer good\r\n\r\nGET /healthz/ping "
        "HTTP/1.1\r\nHost: n\r\n" +
        std::string(kGood));
    EXPECT_EQ(answer.find("HTTP/1.1 200"), 0U);
    EXPECT_NE(answer.find("HTTP/1.1 200", 10), std::string::npos);
    EXPECT_EQ(answer.find("Connection: close"), answer.rfind("Connection: close"));
}

TEST_F(ServerTest, HTTP_1_0_ends_with_the_connection) {
    provider.on_logs = [](const auto&, providers::LogSink& sink, const CallContext&) {
        return sink.write("line\n");
    };
    start();
    const std::string answer =
        talk("GET /containerLogs/ns/p/c HTTP/1.0\r\nAuthorization: Bearer good\r\n\r\n");
    EXPECT_EQ(answer.find("Transfer-Encoding"), std::string::npos);
    EXPECT_TRUE(answer.ends_with("\r\n\r\nline\n"));
}

TEST_F(ServerTest, Malformed_requests_get_their_code_and_the_server_lives) {
    options.limits.max_head_bytes = 8192;
    options.limits.max_body_bytes = 100;
    options.limits.head = Duration(300);
    start();
    struct Row {
        std::string text;
        const char* status;
    };
    const Row rows[] = {
        {"NONSENSE\r\n\r\n", "HTTP/1.1 400"},
        {"GET / HTTP/3.7\r\n\r\n", "HTTP/1.1 505"},
        {"GET / HTTP/1.1\r\nX: " + std::string(9000, 'a') + "\r\n\r\n", "HTTP/1.1 431"},
        {"POST /pods HTTP/1.1\r\nContent-Length: 101\r\n\r\n", "HTTP/1.1 413"},
        {"POST /pods HTTP/1.1\r\nContent-Length: x\r\n\r\n", "HTTP/1.1 400"},
        {"POST /pods HTTP/1.1\r\nContent-Length: -1\r\n\r\n", "HTTP/1.1 400"},
        {"POST /pods HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", "HTTP/1.1 400"},
        {"POST /pods HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", "HTTP/1.1 411"},
        {"POST /pods HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n", "HTTP/1.1 400"},
        {"GET /pods HTT", "HTTP/1.1 408"},
    };
    for (const Row& row : rows) EXPECT_TRUE(talk(row.text).starts_with(row.status)) << row.text.substr(0, 60);
    EXPECT_EQ(client()->Get("/healthz")->status, 200);
}

TEST_F(ServerTest, A_body_is_skipped_and_the_connection_goes_on) {
    start();
    const std::string answer = talk(
        "POST /pods HTTP/1.1\r\nHost: n\r\nAuthorization: Bearer good\r\nContent-Length: 5\r\n\r\nhelloGET "
        "/healthz "
        "HTTP/1.1\r\nHost: n\r\n" +
        std::string(kGood));
    EXPECT_TRUE(answer.starts_with("HTTP/1.1 405"));
    EXPECT_NE(answer.find("HTTP/1.1 200"), std::string::npos);
}

TEST_F(ServerTest, An_idle_connection_is_closed) {
    options.limits.idle = Duration(100);
    start();
    EXPECT_EQ(talk(""), "");
}

TEST_F(ServerTest, One_connection_too_many_gets_503) {
    options.limits.max_connections = 2;
    start();
    const auto first = connect(), second = connect();
    ASSERT_TRUE(first && second);
    EXPECT_TRUE(talk("GET /healthz HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 503"));
}

TEST_F(ServerTest, Without_a_certificate_the_port_is_open_and_handshakes_fail) {
    tls->clear_certificate();
    start();
    EXPECT_TRUE(net::dial("127.0.0.1", server->port(), ctx));
    EXPECT_EQ(connect(), nullptr);
    ASSERT_TRUE(tls->set_certificate(server_identity.certificate_pem, server_identity.key_pem));
    EXPECT_EQ(client()->Get("/healthz")->status, 200);
}

TEST_F(ServerTest, A_new_certificate_is_used_at_once_and_leaves_running_connections_alone) {
    start();
    const auto before = connect();
    ASSERT_TRUE(before);
    const TestIdentity next = ca.issue({"next", {}, "serverAuth", "IP:127.0.0.1"});
    ASSERT_TRUE(tls->set_certificate(next.certificate_pem, next.key_pem));
    const auto after = connect();
    ASSERT_TRUE(after);
    EXPECT_NE(after->peer_chain_pem(), before->peer_chain_pem());
    ASSERT_TRUE(before->write("GET /healthz HTTP/1.1\r\nHost: n\r\n" + std::string(kGood), ctx));
    EXPECT_TRUE(read_all(*before).starts_with("HTTP/1.1 200"));
}

TEST_F(ServerTest, A_port_in_use_is_an_error) {
    start();
    options.port = server->port();
    Server second(clock, options, *tls, authenticator, authorizer, pods, registry, {});
    EXPECT_FALSE(second.start());
}

TEST_F(ServerTest, Stops_twice_with_connections_open) {
    start();
    const auto idle = connect();
    server->stop();
    server->stop();
    EXPECT_EQ(read_all(*idle), "");
}

// containerLogs

TEST_F(ServerTest, Log_errors_come_in_the_kubelets_order) {
    provider.on_logs = [](const auto&, providers::LogSink& sink, const CallContext&) {
        return sink.write("x");
    };
    start();
    auto c = client();
    const auto expect = [&](const char* path, int status, const std::string& body) {
        const auto answer = c->Get(path);
        ASSERT_TRUE(answer) << path;
        EXPECT_EQ(answer->status, status) << path;
        EXPECT_EQ(answer->body, body) << path;
    };
    expect("/containerLogs/ns//c", 400, R"({"message": "Missing podID."})");
    expect("/containerLogs/nope/nope/c?tailLines=x", 400, R"({"message": "Unable to decode query."})");
    expect("/containerLogs/nope/nope/c?tailLines=-1", 422, R"({"message": "Invalid request."})");
    expect("/containerLogs/ns/nope/c", 404, R"(pod "nope" does not exist)");
    expect("/containerLogs/ns/p/nope", 404, R"(container "nope" not found in pod "p")");
    expect(
        "/containerLogs/ns/p/c?stream=Stdout", 400,
        R"(unable to return the given log stream: "Stdout". Please enable PodLogsQuerySplitStreams feature gate in kubelet)");
    expect("/containerLogs/ns/p/fresh", 400, R"(container "fresh" in pod "p" is not available)");
    expect("/containerLogs/ns/p/c", 200, "x");
    provider.on_logs = nullptr;
    expect("/containerLogs/ns/p/c", 501, "provider fake keeps no logs");
}

TEST_F(ServerTest, One_stream_of_a_log_comes_from_a_provider_that_kept_them_apart) {
    Guarded<std::vector<providers::LogStreams>> asked;
    provider.on_logs = [&](const providers::LogRequest& request, providers::LogSink& sink,
                           const CallContext&) {
        asked.lock()->push_back(request.streams);
        return sink.begin();
    };
    provider.keeps_streams_apart = true;
    start();
    EXPECT_EQ(client()->Get("/containerLogs/ns/p/c?stream=Stderr")->status, 200);
    EXPECT_EQ(client()->Get("/containerLogs/ns/p/c?stream=Stdout&tailLines=3")->status, 422);
    EXPECT_EQ(*asked.lock(), std::vector{providers::LogStreams::Stderr});
}

TEST_F(ServerTest, Log_options_reach_the_provider) {
    Guarded<providers::LogRequest> seen;
    provider.on_logs = [&](const providers::LogRequest& request, providers::LogSink& sink,
                           const CallContext&) {
        *seen.lock() = request;
        return sink.begin();
    };
    start();
    EXPECT_EQ(client()->Get("/containerLogs/ns/p/c?follow=1&tailLines=5&timestamps=true")->status, 200);
    const auto request = *seen.lock();
    EXPECT_EQ(request.pod.uid, "uid-p");
    EXPECT_EQ(request.container, "c");
    EXPECT_TRUE(request.follow && request.timestamps);
    EXPECT_EQ(request.tail_lines, 5);
}

TEST_F(ServerTest, Errors_of_the_log_source_become_statuses_before_the_first_byte) {
    start();
    const std::pair<ErrorKind, int> rows[] = {{ErrorKind::NotFound, 404},
                                              {ErrorKind::Invalid, 400},
                                              {ErrorKind::Throttled, 429},
                                              {ErrorKind::Unavailable, 500}};
    for (const auto& [kind, status] : rows) {
        provider.on_logs = [kind = kind](const auto&, auto&, const auto&) -> Result<void> {
            return fail(kind, "why");
        };
        const auto answer = client()->Get("/containerLogs/ns/p/c");
        ASSERT_TRUE(answer);
        EXPECT_EQ(answer->status, status);
        EXPECT_EQ(answer->body, "why");
    }
}

TEST_F(ServerTest, A_log_that_breaks_midway_is_visibly_unfinished) {
    provider.on_logs = [](const auto&, providers::LogSink& sink, const CallContext&) -> Result<void> {
        (void)sink.write("half");
        return fail(ErrorKind::Unavailable, "backend left");
    };
    start();
    const std::string answer = talk("GET /containerLogs/ns/p/c HTTP/1.1\r\nHost: n\r\n" + std::string(kGood));
    EXPECT_NE(answer.find("4\r\nhalf\r\n"), std::string::npos);
    EXPECT_EQ(answer.find("0\r\n\r\n"), std::string::npos);
}

// Follows until its context ends; counts how often it did.
struct Follower {
    Result<void> operator()(const providers::LogRequest&, providers::LogSink& sink, const CallContext& ctx) {
        (void)sink.write("first\n");
        std::condition_variable_any cv;
        std::mutex mutex;
        std::unique_lock lock(mutex);
        ctx.clock().wait_until(cv, lock, SteadyTime::max(), ctx.stop(), [] { return false; });
        ++*ended;
        return fail(ErrorKind::Cancelled, "stopped");
    }
    std::shared_ptr<std::atomic<int>> ended = std::make_shared<std::atomic<int>>(0);
};

TEST_F(ServerTest, A_followed_log_is_on_the_wire_line_by_line_and_ends_when_the_client_leaves) {
    Follower follower;
    provider.on_logs = follower;
    start();
    {
        auto stream = connect();
        ASSERT_TRUE(stream->write(
            "GET /containerLogs/ns/p/c?follow=true HTTP/1.1\r\nHost: n\r\n" + std::string(kGood), ctx));
        std::string seen;
        char buffer[512];
        while (seen.find("first\n") == std::string::npos) {
            const auto got = stream->read(buffer, ctx);
            ASSERT_TRUE(got && *got > 0);
            seen.append(buffer, *got);
        }
        EXPECT_NE(seen.find("Transfer-Encoding: chunked"), std::string::npos);
    }
    for (int i = 0; i < 1000 && *follower.ended == 0; ++i) clock.sleep_for(Duration(10), {});
    EXPECT_EQ(*follower.ended, 1);
}

TEST_F(ServerTest, A_log_whose_pod_is_removed_drains_and_ends_in_order) {
    options.limits.drain = Duration(300);
    Follower follower;
    provider.on_logs = follower;
    start();
    auto stream = connect();
    ASSERT_TRUE(stream->write(
        "GET /containerLogs/ns/p/c?follow=true HTTP/1.1\r\nHost: n\r\n" + std::string(kGood), ctx));
    char buffer[512];
    std::string seen;
    while (seen.find("first\n") == std::string::npos) {
        const auto got = stream->read(buffer, ctx);
        ASSERT_TRUE(got && *got > 0);
        seen.append(buffer, *got);
    }
    server->cancel_pod("uid-other", "no");
    server->cancel_pod("uid-p", "the pod was deleted");
    const auto removed = clock.now();
    EXPECT_TRUE((seen + read_all(*stream)).ends_with("0\r\n\r\n"));
    EXPECT_GE(clock.now() - removed, Duration(290)) << "its last lines may still be on their way";
}

TEST_F(ServerTest, Stopping_ends_followed_logs) {
    Follower follower;
    provider.on_logs = follower;
    start();
    auto stream = connect();
    ASSERT_TRUE(stream->write(
        "GET /containerLogs/ns/p/c?follow=true HTTP/1.1\r\nHost: n\r\n" + std::string(kGood), ctx));
    char buffer[64];
    ASSERT_TRUE(stream->read(buffer, ctx));
    server->stop();
    EXPECT_EQ(*follower.ended, 1);
}

}  // namespace
}  // namespace k8sgpu::kubelet_api
