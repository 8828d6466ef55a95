// Commands and forwarded ports through real sessions over connections in memory: the far end plays the remote
// API server.
#include "providers/kubernetes/exec.h"

#include <gtest/gtest.h>

#include "common/thread.h"
#include "kube/testing/fake_transport.h"
#include "net/memory_stream.h"
#include "net/relay.h"
#include "net/spdy/session.h"
#include "net/ws/channel_session.h"
#include "net/ws/handshake.h"
#include "providers/kubernetes/port_forward.h"
#include "tests/unit/providers/kubernetes/support.h"

namespace k8sgpu::providers::kubernetes {
namespace {

constexpr const char* kSuccess = R"({"metadata":{},"status":"Success"})";
constexpr const char* kExit3 =
    R"({"status":"Failure","reason":"NonZeroExitCode","message":"command terminated with non-zero exit code: 3",
        "details":{"causes":[{"reason":"ExitCode","message":"3"}]}})";

struct FixedAddress final : Locator {
    Result<RemoteAddress> locate(const PodId& pod, const CallContext&) override {
        if (pod != kPod) return fail(ErrorKind::NotFound, "no such pod");
        return RemoteAddress{"gpu", "p", "remote-uid-1"};
    }
};

// The caller of exec: both ends of its streams.
class Caller final : public ExecIo {
  public:
    explicit Caller(bool with_stdin, bool with_tty = false) : with_stdin_(with_stdin), with_tty_(with_tty) {}
    net::ByteStream* stdin_stream() override { return with_stdin_ ? in_.first.get() : nullptr; }
    net::ByteStream* stdout_stream() override { return out_.first.get(); }
    net::ByteStream* stderr_stream() override { return with_tty_ ? nullptr : err_.first.get(); }
    Result<std::optional<TerminalSize>> next_size(const CallContext& ctx) override {
        if (!size_.read_once) {
            size_.read_once = true;
            return std::optional<TerminalSize>({80, 24});
        }
        auto state = waiting_.lock();
        state.wait_until(ctx.clock(), never_, ctx.deadline(), ctx.stop(), [] { return false; });
        return fail(ErrorKind::Cancelled, "stopped");
    }
    net::ByteStream& in() { return *in_.second; }
    net::ByteStream& out() { return *out_.second; }
    net::ByteStream& err() { return *err_.second; }

  private:
    struct Size {
        bool read_once = false;
    };
    const bool with_stdin_, with_tty_;
    net::MemoryPair in_ = net::make_memory_pair(), out_ = net::make_memory_pair(),
                    err_ = net::make_memory_pair();
    Size size_;
    Guarded<int> waiting_;
    std::condition_variable_any never_;
};

std::string read_some(net::ByteStream& stream, const CallContext& ctx) {
    std::array<char, 4096> buffer;
    const auto count = stream.read(buffer, ctx);
    return count ? std::string(buffer.data(), *count) : "<error: " + count.error().message + ">";
}

std::string read_all(net::ByteStream& stream, const CallContext& ctx) {
    std::string text;
    while (true) {
        const std::string some = read_some(stream, ctx);
        if (some.empty() || some.starts_with("<error")) return text;
        text += some;
    }
}

using Streams = std::map<std::string, std::shared_ptr<net::MuxStream>>;
using Play = std::function<void(Streams& streams, net::MuxSession& session, const CallContext& ctx)>;

class RemoteCommand : public ::testing::Test {
  protected:
    CallContext ctx(std::stop_token stop = {}) {
        return CallContext::with_timeout(clock_, Duration(20'000), std::move(stop));
    }

    // The remote side takes the WebSocket upgrade and plays with `count` streams.
    void serve_websocket(const std::string& path, Play play) {
        api_.handle_upgrade(
            path, [this, play = std::move(play)](const kube::Request& r) -> Result<kube::Upgraded> {
                if (r.method != "GET") return fail(ErrorKind::Invalid, "not asked");
                auto pair = net::make_memory_pair();
                net::ws::ChannelOptions options;
                options.protocol = net::ws::ChannelProtocol::BinaryV5;
                const auto has = [&](const char* flag) { return r.path.find(flag) != std::string::npos; };
                auto channels = net::ws::remote_command_channels(
                    net::MuxRole::Server,
                    {has("stdin=true"), has("stdout=true"), has("stderr=true"), has("tty=true")});
                const std::size_t count = channels.size();
                run(std::make_unique<net::ws::ChannelSession>(std::move(pair.second), "", clock_,
                                                              std::move(channels), options),
                    count, play);
                return kube::Upgraded{{{"sec-websocket-accept",
                                        net::ws::accept_key(r.headers.find("sec-websocket-key")->second)},
                                       {"sec-websocket-protocol", "v5.channel.k8s.io"}},
                                      std::move(pair.first)};
            });
    }
    // The remote side refuses WebSocket and takes SPDY.
    void serve_spdy(const std::string& path, const std::string& protocol, std::size_t count, Play play) {
        api_.handle_upgrade(
            path,
            [this, protocol, count,
             play = std::move(play)](const kube::Request& r) -> Result<kube::Upgraded> {
                if (r.method != "POST") return fail(Error{ErrorKind::Invalid, "unable to upgrade", 400, {}});
                auto pair = net::make_memory_pair();
                run(std::make_unique<net::spdy::SpdySession>(std::move(pair.second), "", clock_,
                                                             net::spdy::SpdyOptions{}),
                    count, play);
                return kube::Upgraded{{{"x-stream-protocol-version", protocol}}, std::move(pair.first)};
            });
    }
    void run(std::unique_ptr<net::MuxSession> session, std::size_t count, const Play& play) {
        session_ = std::move(session);
        server_ = Thread("server", [this, count, play](const std::stop_token& stop) {
            Streams streams;
            while (streams.size() < count) {
                auto stream = session_->accept(ctx(stop));
                if (!stream) return;
                streams[(*stream)->headers().at("streamtype")] = *stream;
            }
            play(streams, *session_, ctx(stop));
        });
    }

    static ExecRequest request(bool tty = false) { return {kPod, "main", {"sh"}, tty}; }

    SystemClock clock_;
    kube::FakeTransport api_;
    FixedAddress address_;
    RemoteExec exec_{api_, address_};
    RemotePortForward forward_{api_, address_};
    std::unique_ptr<net::MuxSession> session_;
    Thread server_;
    const std::string exec_path_ = "/api/v1/namespaces/gpu/pods/p/exec";
};

// Echoes stdin to stdout until it ends, says a word on stderr and exits with 3.
void echo_and_exit3(Streams& streams, net::MuxSession& session, const CallContext& ctx) {
    const std::string input = read_all(*streams["stdin"], ctx);
    ASSERT_TRUE(streams["stdout"]->write("got:" + input, ctx));
    ASSERT_TRUE(streams["stderr"]->write("warn", ctx));
    for (const char* out : {"stdout", "stderr"}) ASSERT_TRUE(streams[out]->shut_write());
    ASSERT_TRUE(streams["error"]->write(kExit3, ctx));
    ASSERT_TRUE(streams["error"]->shut_write());
    session.close(Duration(5'000));
}

TEST_F(RemoteCommand, Websocket_carries_input_output_the_end_of_input_and_the_exit_code) {
    serve_websocket(exec_path_, echo_and_exit3);
    Caller caller(/*with_stdin=*/true);
    ASSERT_TRUE(caller.in().write("hello", ctx()));
    ASSERT_TRUE(caller.in().shut_write());
    const auto status = exec_.exec(request(), caller, ctx());
    ASSERT_TRUE(status) << status.error().message;
    EXPECT_EQ(status->code, 3);
    EXPECT_EQ(read_some(caller.out(), ctx()), "got:hello");
    EXPECT_EQ(read_some(caller.err(), ctx()), "warn");
}

TEST_F(RemoteCommand, Spdy_is_used_where_websockets_are_refused) {
    serve_spdy(exec_path_, "v4.channel.k8s.io", 4, echo_and_exit3);
    Caller caller(/*with_stdin=*/true);
    ASSERT_TRUE(caller.in().write("hello", ctx()));
    ASSERT_TRUE(caller.in().shut_write());
    const auto status = exec_.exec(request(), caller, ctx());
    ASSERT_TRUE(status) << status.error().message;
    EXPECT_EQ(status->code, 3);
    EXPECT_EQ(read_some(caller.out(), ctx()), "got:hello");
}

TEST_F(RemoteCommand, The_end_of_input_does_not_end_the_command_nor_its_lack_delay_the_end) {
    serve_websocket(exec_path_, [](Streams& streams, net::MuxSession& session, const CallContext& ctx) {
        ASSERT_TRUE(streams["stdout"]->write("done", ctx));
        ASSERT_TRUE(streams["error"]->write(kSuccess, ctx));
        session.close(Duration(5'000));
    });
    Caller caller(/*with_stdin=*/true);  // never says anything
    const auto status = exec_.exec(request(), caller, ctx());
    ASSERT_TRUE(status) << status.error().message;
    EXPECT_EQ(status->code, 0);
    EXPECT_EQ(read_some(caller.out(), ctx()), "done");
}

TEST_F(RemoteCommand, Terminal_sizes_reach_the_remote_side) {
    std::string size;
    serve_websocket(exec_path_, [&](Streams& streams, net::MuxSession& session, const CallContext& ctx) {
        size = read_some(*streams["resize"], ctx);
        ASSERT_TRUE(streams["error"]->write(kSuccess, ctx));
        session.close(Duration(5'000));
    });
    Caller caller(/*with_stdin=*/false, /*with_tty=*/true);
    ASSERT_TRUE(exec_.exec(request(/*tty=*/true), caller, ctx()));
    server_.join();
    EXPECT_EQ(size, R"({"Width":80,"Height":24})");
}

TEST_F(RemoteCommand, Much_output_arrives_whole_through_a_slow_reader) {
    constexpr std::size_t kSize = 4U << 20U;
    serve_websocket(exec_path_, [](Streams& streams, net::MuxSession& session, const CallContext& ctx) {
        for (std::size_t sent = 0; sent < kSize; sent += 65536) {
            ASSERT_TRUE(streams["stdout"]->write(std::string(65536, 'x'), ctx));
        }
        ASSERT_TRUE(streams["error"]->write(kSuccess, ctx));
        session.close(Duration(10'000));
    });
    Caller caller(/*with_stdin=*/false);
    std::size_t received = 0;
    Thread reader("reader", [&](const std::stop_token&) {
        while (received < kSize) received += read_some(caller.out(), ctx()).size();
    });
    const auto status = exec_.exec(request(), caller, ctx());
    ASSERT_TRUE(status) << status.error().message;
    reader.join();
    EXPECT_EQ(received, kSize);
}

TEST_F(RemoteCommand, A_connection_that_ends_before_the_status_is_no_success) {
    serve_websocket(exec_path_, [this](Streams&, net::MuxSession&, const CallContext&) { session_.reset(); });
    Caller caller(/*with_stdin=*/true);
    const auto status = exec_.exec(request(), caller, ctx());
    ASSERT_FALSE(status);
    EXPECT_EQ(status.error().kind, ErrorKind::Unavailable);
}

TEST_F(RemoteCommand, Asking_to_stop_ends_the_session) {
    std::stop_source stop;
    serve_websocket(exec_path_, [&](Streams& streams, net::MuxSession&, const CallContext& ctx) {
        stop.request_stop();
        read_all(*streams["stdin"], ctx);  // ends with the session
    });
    Caller caller(/*with_stdin=*/true);
    const auto status = exec_.exec(request(), caller, ctx(stop.get_token()));
    ASSERT_FALSE(status);
    EXPECT_EQ(status.error().kind, ErrorKind::Cancelled);
}

TEST_F(RemoteCommand, A_real_refusal_is_told_with_the_servers_words) {
    api_.handle_upgrade(exec_path_, [](const kube::Request&) -> Result<kube::Upgraded> {
        return fail(Error{ErrorKind::Forbidden, "pods \"p\" is forbidden: cannot create pods/exec", 403, {}});
    });
    Caller caller(/*with_stdin=*/false);
    const auto status = exec_.exec(request(), caller, ctx());
    ASSERT_FALSE(status);
    EXPECT_EQ(status.error().kind, ErrorKind::Forbidden);
    EXPECT_EQ(status.error().message, "pods \"p\" is forbidden: cannot create pods/exec");
}

TEST_F(RemoteCommand, A_server_in_trouble_is_asked_once) {
    api_.handle_upgrade(exec_path_, [](const kube::Request&) -> Result<kube::Upgraded> {
        return fail(Error{ErrorKind::Unavailable, "container not found (\"main\")", 500, {}});
    });
    Caller caller(/*with_stdin=*/false);
    EXPECT_FALSE(exec_.exec(request(), caller, ctx()));
    EXPECT_EQ(api_.requests().size(), 1U);
}

TEST_F(RemoteCommand, Attach_goes_to_attach_and_ends_with_the_container) {
    serve_websocket("/api/v1/namespaces/gpu/pods/p/attach",
                    [](Streams& streams, net::MuxSession& session, const CallContext& ctx) {
                        ASSERT_TRUE(streams["stdout"]->write("main", ctx));
                        ASSERT_TRUE(streams["error"]->write(kSuccess, ctx));
                        session.close(Duration(5'000));
                    });
    Caller caller(/*with_stdin=*/false);
    ASSERT_TRUE(exec_.attach(request(), caller, ctx()));
    EXPECT_EQ(read_some(caller.out(), ctx()), "main");
}

TEST_F(RemoteCommand, A_forwarded_port_carries_both_ways) {
    serve_spdy("/api/v1/namespaces/gpu/pods/p/portforward", "portforward.k8s.io", 2,
               [](Streams& streams, net::MuxSession& session, const CallContext& ctx) {
                   EXPECT_EQ(streams["data"]->headers().at("port"), "8080");
                   const std::string question = read_some(*streams["data"], ctx);
                   ASSERT_TRUE(streams["data"]->write("answer to " + question, ctx));
                   ASSERT_TRUE(streams["error"]->shut_write());
                   ASSERT_TRUE(streams["data"]->shut_write());  // ends the session from the other side
                   session.close(Duration(5'000));
               });
    const auto ports = forward_.ports_of(kPod);
    const auto stream = ports->connect(8080, ctx());
    ASSERT_TRUE(stream) << stream.error().message;
    ASSERT_TRUE((*stream)->write("ping", ctx()));
    EXPECT_EQ(read_some(**stream, ctx()), "answer to ping");
    EXPECT_EQ(read_some(**stream, ctx()), "");
}

TEST_F(RemoteCommand, A_port_that_nobody_listens_on_says_so) {
    serve_spdy(
        "/api/v1/namespaces/gpu/pods/p/portforward", "portforward.k8s.io", 2,
        [](Streams& streams, net::MuxSession& session, const CallContext& ctx) {
            // A runtime may end the data before it says why.
            ASSERT_TRUE(streams["data"]->shut_write());
            ASSERT_EQ(read_some(*streams["data"], ctx), "");
            ASSERT_TRUE(streams["error"]->write("error forwarding port 1 to pod p: connection refused", ctx));
            ASSERT_TRUE(streams["error"]->shut_write());
            while (!session.ended().stop_requested() && ctx.check()) {
                if (!session.accept(ctx)) break;
            }
        });
    const auto ports = forward_.ports_of(kPod);
    const auto stream = ports->connect(1, ctx());
    ASSERT_TRUE(stream) << stream.error().message;
    auto far = net::make_memory_pair();
    net::Relay relay;
    std::optional<net::Relay::End> end;
    ASSERT_TRUE(relay.copy(**stream, *far.first, [&](const net::Relay::End& how) { end = how; }));
    ASSERT_TRUE(relay.run(ctx(), [&] { return end.has_value(); }));
    ASSERT_TRUE(end->error);
    EXPECT_NE(end->error->message.find("connection refused"), std::string::npos) << end->error->message;
}

TEST_F(RemoteCommand, Connections_of_one_client_share_a_remote_session) {
    serve_spdy("/api/v1/namespaces/gpu/pods/p/portforward", "portforward.k8s.io", 0,
               [](Streams&, net::MuxSession& session, const CallContext& ctx) {
                   std::vector<std::shared_ptr<net::MuxStream>> kept;
                   while (auto stream = session.accept(ctx)) {
                       kept.push_back(*stream);
                       if ((*stream)->headers().at("streamtype") == "data")
                           (void)(*stream)->write((*stream)->headers().at("requestid"), ctx);
                   }
               });
    const auto ports = forward_.ports_of(kPod);
    std::vector<std::unique_ptr<net::ByteStream>> streams;
    for (int i = 0; i < 50; ++i) {
        auto stream = ports->connect(80, ctx());
        ASSERT_TRUE(stream) << stream.error().message;
        streams.push_back(*std::move(stream));
    }
    for (std::size_t i = 0; i < streams.size(); ++i)
        EXPECT_EQ(read_some(*streams[i], ctx()), std::to_string(i));
    // The first way that is tried is refused, the second is taken; and that once.
    EXPECT_EQ(api_.requests().size(), 2U);
}

}  // namespace
}  // namespace k8sgpu::providers::kubernetes
