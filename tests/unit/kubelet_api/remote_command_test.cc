#include "kubelet_api/remote_command.h"

#include <gtest/gtest.h>

#include <thread>

#include "common/json.h"
#include "kubelet_api/command_io.h"
#include "net/memory_stream.h"
#include "net/spdy/session.h"
#include "net/ws/channel_session.h"

namespace k8sgpu::kubelet_api {
namespace {

using namespace std::chrono_literals;

TEST(SizeDecoder, Takes_the_last_of_several_and_drops_zeros) {
    SizeDecoder decoder;
    const auto size =
        decoder.feed(R"({"Width":80,"Height":24}{"width":100,"HEIGHT":30}{"Width":0,"Height":0})");
    ASSERT_TRUE(size && *size);
    EXPECT_EQ((*size)->width, 100);
    EXPECT_EQ((*size)->height, 30);
}

TEST(SizeDecoder, Waits_for_the_rest_of_an_object) {
    SizeDecoder decoder;
    EXPECT_FALSE(*decoder.feed(R"({"Width":8)"));
    EXPECT_EQ((**decoder.feed(R"(0,"Height":24})")).width, 80);
    EXPECT_EQ((**decoder.feed(R"({"Width":99999,"Height":-4})")).width, 65535);
}

TEST(SizeDecoder, Refuses_nonsense_and_bounds_what_it_keeps) {
    EXPECT_FALSE(SizeDecoder().feed("garbage}"));
    EXPECT_FALSE(SizeDecoder().feed(std::string(2000, '{')));
}

TEST(CommandStreams, Are_read_from_the_query) {
    EXPECT_EQ(decode_command_streams(Query("tty=1&error=1")).error().message,
              "you must specify at least 1 of stdin, stdout, stderr");
    EXPECT_FALSE(decode_command_streams(Query("")));
    const auto streams = decode_command_streams(Query("input=1&output=1&error=1&tty=true"));
    ASSERT_TRUE(streams);
    EXPECT_TRUE(streams->in && streams->out && streams->tty);
    EXPECT_FALSE(streams->err) << "a terminal has one output";
}

TEST(CommandStatus, Is_what_each_protocol_version_expects) {
    const CommandProtocol v4 = command_protocol("v4.channel.k8s.io"), v1 = command_protocol("channel.k8s.io");
    const std::string doing = "executing command in container";
    const Result<providers::ExitStatus> ok = providers::ExitStatus{0}, three = providers::ExitStatus{3},
                                        broken = fail(ErrorKind::Internal, "no such file");
    EXPECT_EQ(*parse_json(command_status(ok, v4, doing), "s"),
              (Json{{"metadata", Json::object()}, {"status", "Success"}}));
    EXPECT_EQ(command_status(ok, v1, doing), "");
    const Json exit = *parse_json(command_status(three, v4, doing), "s");
    EXPECT_EQ(exit["status"], "Failure");
    EXPECT_EQ(exit["reason"], "NonZeroExitCode");
    EXPECT_EQ(exit["details"]["causes"], (Json::array({{{"reason", "ExitCode"}, {"message", "3"}}})));
    EXPECT_TRUE(
        exit["message"].get<std::string>().starts_with("command terminated with non-zero exit code: "));
    EXPECT_TRUE(exit["message"].get<std::string>().ends_with("exit code 3"));
    const Json failure = *parse_json(command_status(broken, v4, doing), "s");
    EXPECT_EQ(failure["reason"], "InternalError");
    EXPECT_EQ(failure["code"], 500);
    EXPECT_EQ(failure["message"],
              "Internal error occurred: error executing command in container: no such file");
    EXPECT_EQ(command_status(broken, v1, doing), "error executing command in container: no such file");
    EXPECT_TRUE(command_protocol("v3.channel.k8s.io").resize);
    EXPECT_FALSE(command_protocol("v2.channel.k8s.io").resize);
    EXPECT_TRUE(command_protocol("v5.channel.k8s.io").json_status);
}

std::string read_all(net::ByteStream& stream, const CallContext& ctx) {
    std::string out;
    char buffer[4096];
    while (true) {
        const auto got = stream.read(buffer, ctx);
        if (!got || *got == 0) return out;
        out.append(buffer, *got);
    }
}

struct RemoteCommandTest : testing::Test {
    SystemClock clock;
    CallContext ctx = CallContext::with_timeout(clock, Duration(20'000), {});
    net::MemoryPair pair = net::make_memory_pair();
    SessionRegistry registry;
    std::unique_ptr<Session> session = registry.enter("uid-p");
    CommandOptions options = [] {
        CommandOptions o;
        o.streams = {true, true, true, false};
        o.protocol = {true, true};
        o.doing = "executing command in container";
        o.linger = Duration(100);
        return o;
    }();
    std::unique_ptr<net::spdy::SpdySession> server, client;
    std::map<std::string, std::shared_ptr<net::MuxStream>> streams;
    std::jthread serving;

    void begin(RunCommand run) {
        net::spdy::SpdyOptions as_server, as_client;
        as_server.name = "srv";
        as_client.name = "cli";
        as_client.role = net::MuxRole::Client;
        server = std::make_unique<net::spdy::SpdySession>(std::move(pair.first), "", clock, as_server);
        client = std::make_unique<net::spdy::SpdySession>(std::move(pair.second), "", clock, as_client);
        serving = std::jthread(
            [this, run = std::move(run)] { serve_remote_command(*server, options, *session, clock, run); });
    }
    void open(const std::vector<std::string>& types) {
        for (const std::string& type : types) {
            auto stream = client->open({{"streamtype", type}}, ctx);
            ASSERT_TRUE(stream) << stream.error().message;
            streams[type] = *stream;
        }
    }
    Json status() {
        return parse_json(read_all(*streams["error"], ctx), "status").value_or(Json("no status"));
    }
};

TEST_F(RemoteCommandTest, Copies_stdin_to_its_end_and_reports_the_exit_code_last) {
    begin([this](providers::ExecIo& io, const CallContext& run_ctx) -> Result<providers::ExitStatus> {
        const std::string input = read_all(*io.stdin_stream(), run_ctx);
        (void)io.stdout_stream()->write("out:" + input, run_ctx);
        (void)io.stderr_stream()->write("err", run_ctx);
        return providers::ExitStatus{3};
    });
    open({"stderr", "stdout", "stdin", "error"});  // any order
    ASSERT_TRUE(streams["stdin"]->write("hello", ctx));
    ASSERT_TRUE(streams["stdin"]->shut_write());
    EXPECT_EQ(read_all(*streams["stdout"], ctx), "out:hello");
    EXPECT_EQ(read_all(*streams["stderr"], ctx), "err");
    EXPECT_EQ(status()["details"]["causes"][0]["message"], "3");
    serving.join();
}

TEST_F(RemoteCommandTest, Success_is_said_too) {
    options.streams = {false, true, false, false};
    begin([](providers::ExecIo& io, const CallContext&) -> Result<providers::ExitStatus> {
        EXPECT_EQ(io.stdin_stream(), nullptr);
        EXPECT_EQ(io.stderr_stream(), nullptr);
        return providers::ExitStatus{0};
    });
    open({"error", "stdout"});
    EXPECT_EQ(status()["status"], "Success");
    serving.join();
}

TEST_F(RemoteCommandTest, Unknown_and_repeated_streams_do_not_count) {
    options.streams = {false, true, false, false};
    begin([](providers::ExecIo&, const CallContext&) -> Result<providers::ExitStatus> {
        return providers::ExitStatus{0};
    });
    open({"error"});
    // Whether their opener sees them acknowledged before they are reset is a matter of luck.
    (void)client->open({{"streamtype", "nonsense"}}, ctx);
    (void)client->open({{"streamtype", "error"}}, ctx);
    (void)client->open({}, ctx);
    open({"stdout"});
    EXPECT_EQ(status()["status"], "Success");
    serving.join();
}

TEST_F(RemoteCommandTest, Without_its_streams_in_time_it_closes_and_runs_nothing) {
    options.stream_creation = Duration(50);
    bool ran = false;
    begin([&](providers::ExecIo&, const CallContext&) -> Result<providers::ExitStatus> {
        ran = true;
        return providers::ExitStatus{0};
    });
    open({"error"});
    serving.join();
    EXPECT_FALSE(ran);
}

TEST_F(RemoteCommandTest, A_client_that_leaves_stops_the_command) {
    begin([](providers::ExecIo& io, const CallContext& run_ctx) -> Result<providers::ExitStatus> {
        char buffer[16];
        std::condition_variable_any cv;
        std::mutex mutex;
        std::unique_lock lock(mutex);
        run_ctx.clock().wait_until(cv, lock, SteadyTime::max(), run_ctx.stop(), [] { return false; });
        EXPECT_FALSE(io.stdin_stream()->read(buffer, run_ctx));
        return fail(ErrorKind::Cancelled, "stopped");
    });
    open({"error", "stdin", "stdout", "stderr"});
    streams.clear();
    client.reset();  // its end of the connection goes with it
    serving.join();
}

TEST_F(RemoteCommandTest, A_removed_pod_ends_the_command_and_says_so) {
    begin([](providers::ExecIo&, const CallContext& run_ctx) -> Result<providers::ExitStatus> {
        std::condition_variable_any cv;
        std::mutex mutex;
        std::unique_lock lock(mutex);
        run_ctx.clock().wait_until(cv, lock, SteadyTime::max(), run_ctx.stop(), [] { return false; });
        return fail(ErrorKind::Cancelled, "stopped");
    });
    open({"error", "stdin", "stdout", "stderr"});
    registry.stop_pod("another", "no");
    registry.stop_pod("uid-p", "the pod was deleted");
    EXPECT_EQ(status()["message"],
              "Internal error occurred: error executing command in container: the pod was deleted");
    serving.join();
}

TEST_F(RemoteCommandTest, Terminal_sizes_arrive_latest_first) {
    options.streams = {true, true, false, true};
    begin([](providers::ExecIo& io, const CallContext& run_ctx) -> Result<providers::ExitStatus> {
        const auto size = io.next_size(run_ctx);
        if (!size || !*size) return fail(ErrorKind::Internal, "no size");
        (void)io.stdout_stream()->write(
            std::to_string((*size)->width) + "x" + std::to_string((*size)->height), run_ctx);
        return providers::ExitStatus{0};
    });
    open({"error", "stdin", "stdout"});
    open({"resize"});
    ASSERT_TRUE(streams["resize"]->write(R"({"Width":80,"Height":24})", ctx));
    EXPECT_EQ(read_all(*streams["stdout"], ctx), "80x24");
    serving.join();
}

TEST_F(RemoteCommandTest, Works_the_same_over_WebSocket_channels) {
    using net::ws::ChannelProtocol;
    net::ws::ChannelOptions as_server, as_client;
    as_server.protocol = as_client.protocol = ChannelProtocol::BinaryV5;
    as_server.name = "srv";
    as_client.name = "cli";
    as_client.role = net::MuxRole::Client;
    const net::ws::RemoteCommandStreams asked{true, true, true, false};
    net::ws::ChannelSession far(std::move(pair.first), "", clock,
                                net::ws::remote_command_channels(net::MuxRole::Server, asked), as_server);
    net::ws::ChannelSession near(std::move(pair.second), "", clock,
                                 net::ws::remote_command_channels(net::MuxRole::Client, asked), as_client);
    serving = std::jthread([&] {
        serve_remote_command(
            far, options, *session, clock,
            [](providers::ExecIo& io, const CallContext& run_ctx) -> Result<providers::ExitStatus> {
                (void)io.stdout_stream()->write(read_all(*io.stdin_stream(), run_ctx), run_ctx);
                return providers::ExitStatus{137};
            });
    });
    for (const char* type : {"stdin", "stdout", "stderr", "error"})
        streams[type] = *near.open({{"streamtype", type}}, ctx);
    ASSERT_TRUE(streams["stdin"]->write("ping", ctx));
    ASSERT_TRUE(streams["stdin"]->shut_write());
    char buffer[16];
    const auto got = streams["stdout"]->read(buffer, ctx);
    ASSERT_TRUE(got);
    EXPECT_EQ(std::string(buffer, *got), "ping");
    EXPECT_EQ(status()["details"]["causes"][0]["message"], "137");
    near.close(Duration(1000));
    serving.join();
}

}  // namespace
}  // namespace k8sgpu::kubelet_api
