// The paths of the API beside logs and streams: served or refused with the kubelet's code and text.
#include <zlib.h>

#include "kubelet_api/scrape.h"
#include "kubelet_api/server.h"
#include "tests/unit/kubelet_api/api_fixture.h"

namespace k8sgpu::kubelet_api {
namespace {

struct RoutesTest : ApiTest {
    struct Answer {
        int status = 0;
        std::string body, type;
    };
    Answer get(const std::string& path, const httplib::Headers& headers = {}) {
        return of(client()->Get(path, headers));
    }
    Answer post(const std::string& path) { return of(client()->Post(path, "", "text/plain")); }
    static Answer of(const httplib::Result& result) {
        EXPECT_TRUE(result);
        if (!result) return {};
        return {result->status, result->body, result->get_header_value("Content-Type")};
    }
};

TEST_F(RoutesTest, Every_scrape_is_prometheus_text) {
    start();
    for (const char* path :
         {"/metrics", "/metrics/cadvisor", "/metrics/probes", "/metrics/resource", "/metrics/slis"}) {
        const Answer answer = get(path);
        EXPECT_EQ(answer.status, 200) << path;
        EXPECT_EQ(answer.type, "text/plain; version=0.0.4; charset=utf-8") << path;
    }
    EXPECT_EQ(get("/metrics/none").body, "404: Page Not Found");
}

TEST_F(RoutesTest, Metrics_are_split_over_paths_as_the_kubelets) {
    start();
    prometheus::BuildCounter()
        .Name("prober_probe_total")
        .Register(registry)
        .Add({{"result", "successful"}})
        .Increment();
    EXPECT_EQ(get("/healthz").body, "ok");
    const std::string main = get("/metrics").body;
    EXPECT_EQ(main.find("prober_probe_total"), std::string::npos);
    EXPECT_EQ(main.find("kubernetes_healthcheck"), std::string::npos);
    for (const char* family : {"process_cpu_seconds_total", "process_resident_memory_bytes",
                               "process_open_fds", "kubelet_http_requests_duration_seconds_bucket",
                               "kubelet_running_containers{container_state=\"running\"} 1"})
        EXPECT_NE(main.find(family), std::string::npos) << family;
    EXPECT_NE(main.find(R"(long_running="false")"), std::string::npos);
    EXPECT_NE(get("/metrics/probes").body.find("prober_probe_total{result=\"successful\"} 1"),
              std::string::npos);
    const std::string slis = get("/metrics/slis").body;
    EXPECT_NE(slis.find(R"(kubernetes_healthcheck{name="ping",type="healthz"} 1)"), std::string::npos)
        << slis;
    EXPECT_NE(slis.find(R"(status="success")"), std::string::npos);
}

TEST_F(RoutesTest, Scrapes_are_compressed_for_whoever_takes_it) {
    start();
    const Answer plain = get("/metrics/resource");
    const auto stream = connect();
    ASSERT_TRUE(stream);
    ASSERT_TRUE(
        stream->write("GET /metrics/resource HTTP/1.1\r\nHost: n\r\nAccept-Encoding: gzip\r\n"
                      "Authorization: Bearer good\r\nConnection: close\r\n\r\n",
                      ctx));
    const std::string answer = read_all(*stream);
    EXPECT_NE(answer.find("Content-Encoding: gzip\r\n"), std::string::npos);
    std::string packed = answer.substr(answer.find("\r\n\r\n") + 4);
    std::string unpacked(1 << 16, '\0');
    z_stream inflating{};
    ASSERT_EQ(inflateInit2(&inflating, 15 + 16), Z_OK);
    inflating.next_in = reinterpret_cast<Bytef*>(packed.data());
    inflating.avail_in = static_cast<uInt>(packed.size());
    inflating.next_out = reinterpret_cast<Bytef*>(unpacked.data());
    inflating.avail_out = static_cast<uInt>(unpacked.size());
    EXPECT_EQ(inflate(&inflating, Z_FINISH), Z_STREAM_END);
    unpacked.resize(inflating.total_out);
    inflateEnd(&inflating);
    EXPECT_EQ(unpacked, plain.body);
}

TEST(Scrape, Knows_who_takes_gzip) {
    const auto accepts = [](const char* value) {
        net::HttpHeaders headers;
        headers.add("Accept-Encoding", value);
        return accepts_gzip(headers);
    };
    EXPECT_TRUE(accepts("gzip"));
    EXPECT_TRUE(accepts("deflate, gzip;q=0.5"));
    EXPECT_TRUE(accepts("*"));
    EXPECT_FALSE(accepts("gzip;q=0"));
    EXPECT_FALSE(accepts("gzip; q=0.000"));
    EXPECT_FALSE(accepts("br"));
    EXPECT_FALSE(accepts(""));
}

TEST_F(RoutesTest, The_summary_answers_get_and_post_and_fails_with_the_kubelets_text) {
    provider.on_stats = [](const CallContext&) { return providers::StatsReport(); };
    start();
    EXPECT_EQ(get("/stats/summary").status, 200);
    EXPECT_EQ(post("/stats/summary?only_cpu_and_memory=true").status, 200);
    EXPECT_EQ(get("/stats").body, "404: Page Not Found");
    provider.on_stats = [](const CallContext&) -> Result<providers::StatsReport> {
        return fail(ErrorKind::Unavailable, "backend left");
    };
    const Answer failed = get("/stats/summary");
    EXPECT_EQ(failed.status, 500);
    EXPECT_EQ(failed.body, "Internal Error: backend left");
}

TEST_F(RoutesTest, Run_answers_both_outputs_in_one_body) {
    Guarded<providers::ExecRequest> seen;
    provider.on_exec = [&](const providers::ExecRequest& request, providers::ExecIo& io,
                           const CallContext& c) {
        *seen.lock() = request;
        EXPECT_EQ(io.stdin_stream(), nullptr);
        (void)io.stderr_stream()->write("err\n", c);
        (void)io.stdout_stream()->write("out\n", c);
        return Result<providers::ExitStatus>(providers::ExitStatus{0});
    };
    start();
    for (const char* path : {"/run/ns/p/c?cmd=echo%20a%20%20b", "/run/ns/p/uid-p/c?cmd=echo%20a%20%20b"}) {
        const Answer answer = post(path);
        EXPECT_EQ(answer.status, 200);
        EXPECT_EQ(answer.body, "out\nerr\n");
        EXPECT_EQ(seen.lock()->command, (std::vector<std::string>{"echo", "a", "", "b"}));
    }
}

TEST_F(RoutesTest, Run_fails_with_the_kubelets_texts) {
    provider.on_exec = [](const auto&, providers::ExecIo& io, const CallContext& c) {
        (void)io.stderr_stream()->write("no such file\n", c);
        return Result<providers::ExitStatus>(providers::ExitStatus{3});
    };
    start();
    const auto expect = [&](const char* path, int status, const std::string& body) {
        const Answer answer = post(path);
        EXPECT_EQ(answer.status, status) << path;
        EXPECT_EQ(answer.body, body) << path;
    };
    expect("/run/ns/p/c?cmd=ls%20/x", 500, "command 'ls /x' exited with 3: no such file\n");
    expect("/run/ns/nope/c?cmd=ls", 404, "pod does not exist");
    expect("/run/ns/p/nope?cmd=ls", 500, "container not found (\"nope\")");
    expect("/run/ns/p/other-uid/c?cmd=ls", 500, "container not found (\"c\")");
    EXPECT_EQ(get("/run/ns/p/c?cmd=ls").status, 405);
    provider.on_exec = nullptr;
    expect("/run/ns/p/c?cmd=ls", 501, "provider fake does not support exec");
}

TEST_F(RoutesTest, A_removed_pod_ends_its_run) {
    std::atomic<bool> begun{false};
    provider.on_exec = [&](const auto&, auto&, const CallContext& c) -> Result<providers::ExitStatus> {
        begun = true;
        (void)c.clock().sleep_for(Duration(20'000), c.stop());
        return fail(ErrorKind::Cancelled, "stopped");
    };
    start();
    Answer answer;
    std::thread caller([&] { answer = post("/run/ns/p/c?cmd=sleep"); });
    while (!begun) std::this_thread::yield();
    server->cancel_pod("uid-p", "pod is gone");
    caller.join();
    EXPECT_EQ(answer.status, 500);
    EXPECT_EQ(answer.body, "pod is gone");
}

TEST_F(RoutesTest, Checkpoint_checks_as_the_kubelet_and_refuses) {
    start();
    const auto expect = [&](const char* path, int status, const std::string& body) {
        const Answer answer = post(path);
        EXPECT_EQ(answer.status, status) << path;
        EXPECT_EQ(answer.body, body) << path;
    };
    expect("/checkpoint/ns/nope/c", 404, "pod does not exist");
    expect("/checkpoint/ns/p/nope", 404, "container nope does not exist");
    expect("/checkpoint/ns/p/c?timeout=5&timeout=x", 404, "cannot parse value of timeout parameter");
    expect("/checkpoint/ns/p/init?timeout=5", 500,
           "checkpointing of ns/p/init failed (provider fake does not support it)");
    EXPECT_EQ(get("/checkpoint/ns/p/c").body, "405: Method Not Allowed");
}

TEST_F(RoutesTest, What_is_switched_off_says_so) {
    start();
    for (const char* path : {"/logs/", "/logs/syslog", "/logs"}) {
        EXPECT_EQ(get(path).status, 405) << path;
        EXPECT_EQ(get(path).body, "logs endpoint is disabled.\n") << path;
    }
    for (const char* path : {"/debug/pprof/", "/debug/pprof/heap", "/debug/flags/v"})
        EXPECT_EQ(get(path).body, "Debug endpoints are disabled.\n") << path;
    for (const char* path : {"/statusz", "/flagz", "/spec", "/"})
        EXPECT_EQ(get(path).body, "404 page not found\n") << path;
}

TEST_F(RoutesTest, Health_can_leave_checks_out) {
    start();
    *health.lock() = fail(ErrorKind::Internal, "thread hangs");
    EXPECT_EQ(get("/healthz").status, 500);
    EXPECT_EQ(get("/healthz?exclude=syncloop").body, "ok");
    EXPECT_EQ(
        get("/healthz?exclude=syncloop&exclude=zz&exclude=aa&verbose").body,
        "[+]ping ok\n[+]log ok\n[+]syncloop excluded: ok\n"
        "warn: some health checks cannot be excluded: no matches for \"aa\",\"zz\"\nhealthz check passed\n");
    EXPECT_EQ(get("/healthz/syncloop").body, "internal server error: thread hangs\n");
    EXPECT_EQ(get("/healthz/log").body, "ok");
}

TEST_F(RoutesTest, Head_is_answered_without_a_body) {
    start();
    const auto stream = connect();
    ASSERT_TRUE(stream);
    const std::string request = "HEAD /healthz HTTP/1.1\r\nHost: n\r\nAuthorization: Bearer good\r\n";
    ASSERT_TRUE(stream->write(request + "\r\n" + request + "Connection: close\r\n\r\n", ctx));
    const std::string answers = read_all(*stream);
    EXPECT_NE(answers.find("Content-Length: 2\r\n"), std::string::npos);
    EXPECT_EQ(answers.find("\r\n\r\nok"), std::string::npos) << answers;
    EXPECT_NE(answers.rfind("HTTP/1.1 200"), 0U) << "both were answered";
}

}  // namespace
}  // namespace k8sgpu::kubelet_api
