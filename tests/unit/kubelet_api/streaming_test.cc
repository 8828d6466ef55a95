#include <filesystem>
#include <list>

#include "common/json.h"
#include "common/thread.h"
#include "net/memory_stream.h"
#include "net/spdy/session.h"
#include "net/ws/channel_session.h"
#include "net/ws/handshake.h"
#include "net/ws/message_stream.h"
#include "tests/unit/kubelet_api/api_fixture.h"

namespace k8sgpu::kubelet_api {
namespace {

const std::string kExec = "/exec/ns/p/c?command=echo&command=hi&input=1&output=1&error=1";

struct StreamingTest : ApiTest {
    StreamingTest() {
        // Echoes stdin to stdout and ends with the number of its arguments.
        provider.on_exec = [this](const providers::ExecRequest& request, providers::ExecIo& io,
                                  const CallContext& run) -> Result<providers::ExitStatus> {
            *seen.lock() = request;
            char buffer[4096];
            while (io.stdin_stream() != nullptr) {
                const auto got = io.stdin_stream()->read(buffer, run);
                if (!got) return fail(got.error());
                if (*got == 0) break;
                if (auto put = io.stdout_stream()->write({buffer, *got}, run); !put) return fail(put.error());
            }
            return providers::ExitStatus{static_cast<int>(request.command.size())};
        };
    }
    // Sessions write into `seen`: they end before it goes.
    ~StreamingTest() override {
        if (server) server->stop();
    }
    static net::HeaderLines spdy(std::vector<std::string> versions) {
        net::HeaderLines lines = {{"Connection", "Upgrade"}, {"Upgrade", "SPDY/3.1"}};
        for (std::string& version : versions)
            lines.emplace_back("X-Stream-Protocol-Version", std::move(version));
        return lines;
    }
    std::unique_ptr<net::spdy::SpdySession> spdy_client(Opened opened) {
        net::spdy::SpdyOptions as_client;
        as_client.role = net::MuxRole::Client;
        as_client.name = "test";
        return std::make_unique<net::spdy::SpdySession>(std::move(opened.stream),
                                                        std::move(opened.answer.early), clock, as_client);
    }
    std::unique_ptr<net::ws::ChannelSession> ws_client(Opened opened, const std::string& protocol,
                                                       net::ws::RemoteCommandStreams asked) {
        net::ws::ChannelOptions as_client;
        as_client.role = net::MuxRole::Client;
        as_client.name = "test";
        as_client.protocol = *net::ws::channel_protocol(protocol);
        return std::make_unique<net::ws::ChannelSession>(
            std::move(opened.stream), std::move(opened.answer.early), clock,
            net::ws::remote_command_channels(net::MuxRole::Client, asked), as_client);
    }
    Opened websocket(const std::string& target, const std::vector<std::string>& protocols) {
        return upgrade("GET", target, net::ws::upgrade_request_headers(net::ws::new_client_key(), protocols));
    }

    Guarded<providers::ExecRequest> seen;
};

TEST_F(StreamingTest, Exec_over_SPDY_by_POST_and_GET_for_every_version) {
    start();
    for (const char* method : {"POST", "GET"}) {
        for (const char* version :
             {"v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io"}) {
            auto opened = upgrade(method, kExec, spdy({"v5.channel.k8s.io, nonsense", version}));
            ASSERT_EQ(opened.answer.head.status, 101);
            EXPECT_EQ(opened.answer.head.headers.get("x-stream-protocol-version"), version);
            const auto session = spdy_client(std::move(opened));
            std::map<std::string, std::shared_ptr<net::MuxStream>> streams;
            for (const char* type : {"error", "stdin", "stdout", "stderr"})
                streams[type] = *session->open({{"streamtype", type}}, ctx);
            ASSERT_TRUE(streams["stdin"]->write("some input", ctx));
            ASSERT_TRUE(streams["stdin"]->shut_write());
            EXPECT_EQ(read_all(*streams["stdout"]), "some input");
            const std::string error = read_all(*streams["error"]);
            if (version[0] == 'v' && version[1] == '4') {
                EXPECT_EQ((*parse_json(error, "status"))["details"]["causes"][0]["message"], "2");
            } else {
                EXPECT_EQ(error, "error executing command in container: command terminated with exit code 2");
            }
        }
    }
    EXPECT_EQ(seen.lock()->command, (std::vector<std::string>{"echo", "hi"}));
    EXPECT_EQ(seen.lock()->pod.uid, "uid-p");
    auto asked = authorizer.asked.lock();
    EXPECT_EQ(asked->front(), "tester create proxy");
    EXPECT_EQ(asked->back(), "tester get proxy");
}

TEST_F(StreamingTest, Exec_over_every_WebSocket_protocol) {
    start();
    for (const char* protocol : {"", "channel.k8s.io", "base64.channel.k8s.io", "v4.channel.k8s.io",
                                 "v4.base64.channel.k8s.io", "v5.channel.k8s.io"}) {
        const std::string name = protocol;
        const bool v5 = name.starts_with("v5");
        // Before v5 there is no end of stdin, so nothing is asked for that would need it.
        const std::string target = v5 ? kExec : "/exec/ns/p/c?command=a&command=b&command=c&output=1";
        auto opened = websocket(target, name.empty() ? std::vector<std::string>{} : std::vector{name});
        ASSERT_EQ(opened.answer.head.status, 101) << name;
        EXPECT_EQ(opened.answer.head.headers.get("sec-websocket-protocol"), name);
        const auto session = ws_client(std::move(opened), name, {v5, true, v5, false});
        const auto out = *session->open({{"streamtype", "stdout"}}, ctx);
        const auto error = *session->open({{"streamtype", "error"}}, ctx);
        if (v5) {
            const auto in = *session->open({{"streamtype", "stdin"}}, ctx);
            ASSERT_TRUE(in->write("data", ctx));
            ASSERT_TRUE(in->shut_write());
            char buffer[16];
            const auto got = out->read(buffer, ctx);
            ASSERT_TRUE(got);
            EXPECT_EQ(std::string(buffer, *got), "data");
        }
        const std::string status = read_all(*error);
        if (name.starts_with("v")) {
            EXPECT_EQ((*parse_json(status, "status"))["details"]["causes"][0]["message"], v5 ? "2" : "3")
                << name;
        } else {
            EXPECT_EQ(status, "error executing command in container: command terminated with exit code 3")
                << name;
        }
    }
}

TEST_F(StreamingTest, A_token_may_come_as_subprotocol) {
    start();
    auto stream = connect();
    auto lines = net::ws::upgrade_request_headers(
        net::ws::new_client_key(), {"base64url.bearer.authorization.k8s.io.Z29vZA", "v4.channel.k8s.io"});
    lines.emplace_back("Host", "n");
    ASSERT_TRUE(stream->write(net::write_request_head("GET", "/exec/ns/p/c?command=a&output=1", lines), ctx));
    const auto head = net::read_response_head(*stream, ctx);
    ASSERT_TRUE(head);
    EXPECT_EQ(head->head.status, 101);
    EXPECT_EQ(head->head.headers.get("sec-websocket-protocol"), "v4.channel.k8s.io");
}

TEST_F(StreamingTest, Refusals_come_before_the_upgrade_with_the_kubelets_texts) {
    start();
    struct Row {
        const char* target;
        net::HeaderLines lines;
        int status;
        std::string body;
    };
    const auto v4 = spdy({"v4.channel.k8s.io"});
    const Row rows[] = {
        {"/exec/ns/p/c?command=a", v4, 400, "you must specify at least 1 of stdin, stdout, stderr"},
        {"/exec/ns/p/c?output=1", v4, 400, "you must specify at least one command for the container"},
        {"/exec/ns/nope/c?command=a&output=1", v4, 404, "pod does not exist"},
        {"/exec/ns/p/other-uid/c?command=a&output=1", v4, 404, "pod does not exist"},
        {"/exec/ns/p/nope?command=a&output=1", v4, 500, R"(container not found ("nope"))"},
        {"/exec/ns/p/init?command=a&output=1", v4, 500, R"(container not found ("init"))"},
        {"/attach/ns/p/nope?output=1", v4, 500, "container nope not found in pod p_ns"},
        {"/attach/ns/p/c?output=1", v4, 501, "provider fake does not support attach"},
        {"/portForward/ns/nope", spdy({"portforward.k8s.io"}), 404, "pod does not exist"},
        {"/portForward/ns/p/other-uid", spdy({"portforward.k8s.io"}), 404, "pod not found"},
        {"/portForward/ns/p", spdy({"portforward.k8s.io"}), 501,
         "provider fake does not support port-forward"},
        {"/exec/ns/p/c?command=a&output=1", spdy({}), 400,
         "unable to upgrade: X-Stream-Protocol-Version is required"},
        {"/exec/ns/p/c?command=a&output=1", spdy({"v9"}), 403,
         "unable to upgrade: unable to negotiate protocol: client supports [v9], server accepts "
         "[v4.channel.k8s.io "
         "v3.channel.k8s.io v2.channel.k8s.io channel.k8s.io]"},
        {"/exec/ns/p/c?command=a&output=1",
         {},
         400,
         "unable to upgrade: missing upgrade headers in request: host authorization"},
    };
    for (const Row& row : rows) {
        auto lines = row.lines;
        auto opened = upgrade("POST", row.target, lines);
        EXPECT_EQ(opened.answer.head.status, row.status) << row.target;
        const auto length = opened.answer.head.headers.get("content-length");
        EXPECT_EQ(length, std::to_string(row.body.size())) << row.target;
        std::string text = opened.answer.early;
        char buffer[512];
        while (text.size() < row.body.size()) {
            const auto got = opened.stream->read(buffer, ctx);
            if (!got || *got == 0) break;
            text.append(buffer, *got);
        }
        EXPECT_EQ(text, row.body);
    }
    auto none = websocket("/exec/ns/p/c?command=a&output=1", {"v9.channel.k8s.io"});
    EXPECT_EQ(none.answer.head.status, 403);
    auto refused = upgrade("POST", "/exec/ns/p/c?command=a&output=1", spdy({"v9"}));
    EXPECT_EQ(refused.answer.head.headers.all("x-accepted-stream-protocol-versions").size(), 4U);
}

TEST_F(StreamingTest, The_path_form_with_uid_works) {
    start();
    auto opened = upgrade("POST", "/exec/ns/p/uid-p/c?command=a&output=1", spdy({"v4.channel.k8s.io"}));
    EXPECT_EQ(opened.answer.head.status, 101);
}

TEST_F(StreamingTest, Attach_reports_success) {
    provider.on_attach = [](const providers::ExecRequest& request, providers::ExecIo& io,
                            const CallContext& run) -> Result<void> {
        EXPECT_TRUE(request.command.empty());
        return io.stdout_stream()->write("attached", run);
    };
    start();
    const auto session = spdy_client(upgrade("POST", "/attach/ns/p/c?output=1", spdy({"v4.channel.k8s.io"})));
    const auto error = *session->open({{"streamtype", "error"}}, ctx);
    const auto out = *session->open({{"streamtype", "stdout"}}, ctx);
    EXPECT_EQ(read_all(*out), "attached");
    EXPECT_EQ((*parse_json(read_all(*error), "status"))["status"], "Success");
}

TEST_F(StreamingTest, A_big_transfer_arrives_whole_both_ways) {
    start();
    const auto session = spdy_client(upgrade("POST", kExec, spdy({"v4.channel.k8s.io"})));
    std::map<std::string, std::shared_ptr<net::MuxStream>> streams;
    for (const char* type : {"error", "stdin", "stdout", "stderr"})
        streams[type] = *session->open({{"streamtype", type}}, ctx);
    std::string sent(4U << 20U, '\0');
    for (std::size_t i = 0; i < sent.size(); ++i) sent[i] = static_cast<char>(i * 31 + i / 4096);
    std::jthread writer([&] {
        EXPECT_TRUE(streams["stdin"]->write(sent, ctx));
        (void)streams["stdin"]->shut_write();
    });
    EXPECT_TRUE(read_all(*streams["stdout"]) == sent);
}

TEST_F(StreamingTest, A_removed_pod_and_a_stopping_server_end_sessions_with_a_reason) {
    start();
    for (const bool stop : {false, true}) {
        const auto session = spdy_client(upgrade("POST", kExec, spdy({"v4.channel.k8s.io"})));
        std::map<std::string, std::shared_ptr<net::MuxStream>> streams;
        for (const char* type : {"error", "stdin", "stdout", "stderr"})
            streams[type] = *session->open({{"streamtype", type}}, ctx);
        ASSERT_TRUE(streams["stdin"]->write("x", ctx));
        char buffer[8];
        ASSERT_TRUE(streams["stdout"]->read(buffer, ctx)) << "it runs";
        std::jthread ending(
            [&] { stop ? server->stop() : server->cancel_pod("uid-p", "the pod was deleted"); });
        const Json status = *parse_json(read_all(*streams["error"]), "status");
        EXPECT_EQ(status["message"],
                  std::string("Internal error occurred: error executing command in container: ") +
                      (stop ? "the node agent is shutting down" : "the pod was deleted"));
        session->cancel();
    }
}

TEST_F(StreamingTest, A_client_that_vanishes_ends_the_command) {
    std::atomic<int> ended{0};
    provider.on_exec = [&](const auto&, providers::ExecIo& io,
                           const CallContext& run) -> Result<providers::ExitStatus> {
        char buffer[8];
        const auto got = io.stdin_stream()->read(buffer, run);
        ++ended;
        if (!got) return fail(got.error());
        return providers::ExitStatus{0};
    };
    start();
    {
        const auto session = spdy_client(upgrade("POST", kExec, spdy({"v4.channel.k8s.io"})));
        for (const char* type : {"error", "stdin", "stdout", "stderr"})
            ASSERT_TRUE(session->open({{"streamtype", type}}, ctx));
        session->cancel();
    }
    for (int i = 0; i < 1000 && ended == 0; ++i) clock.sleep_for(Duration(10), {});
    EXPECT_EQ(ended, 1);
}

TEST_F(StreamingTest, Nothing_is_left_behind_by_clients_that_vanish) {
    start();
    const auto count = [](const char* what) {
        return std::distance(std::filesystem::directory_iterator(what),
                             std::filesystem::directory_iterator());
    };
    EXPECT_EQ(client()->Get("/healthz")->status, 200);
    const auto leave = [&] {
        const auto session = spdy_client(upgrade("POST", kExec, spdy({"v4.channel.k8s.io"})));
        for (const char* type : {"error", "stdin", "stdout", "stderr"})
            ASSERT_TRUE(session->open({{"streamtype", type}}, ctx));
        session->cancel();
    };
    const auto settle = [&](auto threads, auto descriptors) {
        for (int i = 0; i < 500; ++i) {
            if (count("/proc/self/task") <= threads && count("/proc/self/fd") <= descriptors) return true;
            clock.sleep_for(Duration(10), {});
        }
        return false;
    };
    leave();
    clock.sleep_for(Duration(200), {});
    const auto threads = count("/proc/self/task"), descriptors = count("/proc/self/fd");
    for (int i = 0; i < 20; ++i) leave();
    EXPECT_TRUE(settle(threads, descriptors))
        << count("/proc/self/task") << " threads, were " << threads << "; " << count("/proc/self/fd")
        << " descriptors, were " << descriptors;
}

TEST_F(StreamingTest, Run_answers_with_the_output_or_with_what_went_wrong) {
    provider.on_exec = [](const providers::ExecRequest& request, providers::ExecIo& io,
                          const CallContext& run) -> Result<providers::ExitStatus> {
        if (request.command[0] == "nothing") return fail(ErrorKind::Internal, "no such program");
        EXPECT_EQ(io.stdin_stream(), nullptr);
        (void)io.stdout_stream()->write("out of " + request.command.back(), run);
        (void)io.stderr_stream()->write("err", run);
        return providers::ExitStatus{request.command[0] == "fail" ? 3 : 0};
    };
    start();
    const auto post = [&](const std::string& path) {
        const auto answer = client()->Post(path);
        return std::to_string(answer->status) + " " + answer->body;
    };
    EXPECT_EQ(post("/run/ns/p/c?cmd=echo%20a%20b"), "200 out of berr");
    EXPECT_EQ(post("/run/ns/p/uid-p/c?cmd=echo"), "200 out of echoerr");
    EXPECT_EQ(post("/run/ns/p/c?cmd=fail%20me"), "500 command 'fail me' exited with 3: err");
    EXPECT_EQ(post("/run/ns/p/c?cmd=nothing"), "500 no such program");
    EXPECT_EQ(post("/run/ns/p/other/c?cmd=echo"), "500 container not found (\"c\")");
    EXPECT_EQ(post("/run/ns/p/nobody?cmd=echo"), "500 container not found (\"nobody\")");
}

// port-forward

struct PortForwardTest : StreamingTest {
    PortForwardTest() {
        // Sends the port, then echoes.
        provider.on_connect = [this](const PodId&, std::uint16_t port,
                                     const CallContext&) -> Result<std::unique_ptr<net::ByteStream>> {
            if (port == 9) return fail(ErrorKind::Unavailable, "connection refused");
            auto pair = net::make_memory_pair();
            pods_.emplace_back("pod",
                               [this, port, end = std::shared_ptr<net::ByteStream>(std::move(pair.second))](
                                   const std::stop_token& stop) { echo(port, *end, stop); });
            return std::unique_ptr<net::ByteStream>(std::move(pair.first));
        };
    }
    void echo(std::uint16_t port, net::ByteStream& stream, const std::stop_token& stop) {
        const auto run = CallContext::until_stopped(clock, stop);
        if (!stream.write("<" + std::to_string(port) + ">", run)) return;
        char buffer[4096];
        while (port != kDeaf) {
            const auto got = stream.read(buffer, run);
            if (!got) return;
            if (*got == 0) return (void)stream.shut_write();
            if (!stream.write({buffer, *got}, run)) return;
        }
        clock.sleep_for(Duration(60'000), stop);
    }
    static constexpr std::uint16_t kDeaf = 7;  // never reads
    using Pair = std::pair<std::shared_ptr<net::MuxStream>, std::shared_ptr<net::MuxStream>>;
    Pair open_pair(net::MuxSession& session, const std::string& id, const std::string& port) {
        auto error = *session.open({{"streamtype", "error"}, {"port", port}, {"requestid", id}}, ctx);
        (void)error->shut_write();
        auto data = *session.open({{"streamtype", "data"}, {"port", port}, {"requestid", id}}, ctx);
        return {error, data};
    }
    void check_many(net::MuxSession& session) {
        std::vector<Pair> pairs;
        for (int i = 0; i < 20; ++i)
            pairs.push_back(open_pair(session, std::to_string(i), std::to_string(8000 + i)));
        for (std::size_t i = 0; i < pairs.size(); ++i) {
            auto& [error, data] = pairs[i];
            ASSERT_TRUE(data->write("ping", ctx));
            ASSERT_TRUE(data->shut_write());
            EXPECT_EQ(read_all(*data), "<" + std::to_string(8000 + i) + ">ping");
            EXPECT_EQ(read_all(*error), "");
        }
    }
    std::list<Thread> pods_;
};

TEST_F(PortForwardTest, Many_connections_share_a_SPDY_session) {
    start();
    const auto session = spdy_client(upgrade("POST", "/portForward/ns/p", spdy({"portforward.k8s.io"})));
    check_many(*session);
}

TEST_F(PortForwardTest, SPDY_may_come_inside_a_WebSocket) {
    start();
    auto opened = websocket("/portForward/ns/p", {"SPDY/3.1+portforward.k8s.io"});
    ASSERT_EQ(opened.answer.head.status, 101);
    EXPECT_EQ(opened.answer.head.headers.get("sec-websocket-protocol"), "SPDY/3.1+portforward.k8s.io");
    auto tunnel = std::make_unique<net::ws::MessageStream>(
        std::move(opened.stream), std::move(opened.answer.early), net::MuxRole::Client);
    net::spdy::SpdyOptions as_client;
    as_client.role = net::MuxRole::Client;
    as_client.name = "test";
    net::spdy::SpdySession session(std::move(tunnel), "", clock, as_client);
    check_many(session);
}

TEST_F(PortForwardTest, A_refused_connection_is_told_on_its_error_stream_and_others_go_on) {
    start();
    const auto session = spdy_client(upgrade("POST", "/portForward/ns/p", spdy({"portforward.k8s.io"})));
    auto [error, data] = open_pair(*session, "1", "9");
    EXPECT_EQ(read_all(*error), "error forwarding port 9 to pod p, uid uid-p: connection refused");
    check_many(*session);
}

TEST_F(PortForwardTest, A_pod_that_does_not_read_stalls_no_other_connection) {
    start();
    const auto session = spdy_client(upgrade("POST", "/portForward/ns/p", spdy({"portforward.k8s.io"})));
    const auto deaf = open_pair(*session, "deaf", std::to_string(kDeaf)).second;
    ASSERT_TRUE(deaf->write(std::string(4U << 20U, 'x'), ctx));
    check_many(*session);
}

TEST_F(PortForwardTest, Connections_cost_no_threads) {
    start();
    const auto threads = [] {
        return std::distance(std::filesystem::directory_iterator("/proc/self/task"),
                             std::filesystem::directory_iterator());
    };
    const auto session = spdy_client(upgrade("POST", "/portForward/ns/p", spdy({"portforward.k8s.io"})));
    const auto before = threads();
    std::vector<Pair> pairs;
    for (int i = 0; i < 100; ++i) pairs.push_back(open_pair(*session, std::to_string(i), "80"));
    char buffer[8];
    for (auto& [error, data] : pairs) EXPECT_EQ(*data->read(buffer, ctx), 4U);
    // The pod's own side has one thread each here.
    EXPECT_LE(threads() - before, 100 + 3);
}

TEST_F(PortForwardTest, Half_a_pair_times_out_with_a_text) {
    options.limits.stream_creation = Duration(100);
    start();
    const auto session = spdy_client(upgrade("POST", "/portForward/ns/p", spdy({"portforward.k8s.io"})));
    const auto error = *session->open({{"streamtype", "error"}, {"port", "80"}, {"requestid", "7"}}, ctx);
    EXPECT_EQ(read_all(*error), "(request=7) timed out waiting for streams");
}

TEST_F(PortForwardTest, The_direct_WebSocket_form_begins_with_the_port) {
    start();
    auto opened = websocket("/portForward/ns/p?port=80&port=513", {"v4.channel.k8s.io"});
    ASSERT_EQ(opened.answer.head.status, 101);
    std::vector<net::ws::Channel> channels;
    for (std::uint8_t i = 0; i < 4; ++i)
        channels.push_back({i, {{"streamtype", "ch" + std::to_string(i)}}, true, i % 2 == 0});
    net::ws::ChannelOptions as_client;
    as_client.role = net::MuxRole::Client;
    as_client.name = "test";
    net::ws::ChannelSession session(std::move(opened.stream), std::move(opened.answer.early), clock, channels,
                                    as_client);
    const auto take = [&](const char* type, std::size_t size) {
        const auto stream = *session.open({{"streamtype", type}}, ctx);
        std::string out;
        char one[1];
        while (out.size() < size && stream->read(one, ctx).value_or(0) == 1) out += one[0];
        return out;
    };
    EXPECT_EQ(take("ch0", 6), std::string("\x50\0<80>", 6));
    EXPECT_EQ(take("ch1", 2), std::string("\x50\0", 2));
    EXPECT_EQ(take("ch2", 7), std::string("\x01\x02<513>", 7));
    EXPECT_EQ(take("ch3", 2), std::string("\x01\x02", 2));
}

TEST_F(PortForwardTest, Bad_ports_of_the_direct_form_are_refused) {
    start();
    const std::pair<const char*, const char*> rows[] = {
        {"", "query parameter \"port\" is required"},
        {"?port=", "query parameter \"port\" cannot be empty"},
        {"?port=80,", "query parameter \"port\" cannot be empty"},
        {"?port=0", "port \"0\" must be > 0"},
        {"?port=x", "unable to parse \"x\" as a port: not a number up to 65535"},
        {"?port=65536", "unable to parse \"65536\" as a port: not a number up to 65535"},
    };
    for (const auto& [query, text] : rows) {
        auto opened = websocket(std::string("/portForward/ns/p") + query, {"v4.channel.k8s.io"});
        EXPECT_EQ(opened.answer.head.status, 400) << query;
        EXPECT_TRUE(opened.answer.early == text || opened.answer.early.empty()) << opened.answer.early;
    }
}

}  // namespace
}  // namespace k8sgpu::kubelet_api
