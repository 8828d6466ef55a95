#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>

#include "kube/curl_transport.h"
#include "tests/unit/kube/fake_api_server.h"
#include "tests/unit/kube/temp_dir.h"

namespace k8sgpu::kube {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

class UpgradeTest : public testing::Test {
  protected:
    CallContext ctx(Duration timeout = 30s) {
        return CallContext::with_timeout(clock, timeout, stop.get_token());
    }
    ServerTls tls() { return {ca.issue("server", {"IP:127.0.0.1", "DNS:api.internal"}), ca.cert()}; }
    std::unique_ptr<CurlTransport> transport(const std::string& url, const std::string& proxy = "") {
        ClientConfig config;
        config.origin = "the test";
        config.server = url;
        config.ca.pem = ca.cert();
        config.token = "t0ken";
        config.proxy_url = proxy;
        return std::move(*CurlTransport::create(config, clock));
    }
    static Request exec_request() {
        Request request;
        request.method = "POST";
        request.path = "/api/v1/namespaces/a/pods/p/exec?command=sh";
        request.headers = {{"connection", "Upgrade"}, {"upgrade", "SPDY/3.1"}};
        return request;
    }
    static void switch_protocols(FakeApiServer::Call& call, const std::string& early) {
        const std::string head =
            net::write_response_head(101, {{"Connection", "Upgrade"}, {"X-Stream-Protocol-Version", "v4"}});
        (void)call.stream.write(head + early, call.ctx).has_value();
    }
    std::string read_exactly(net::ByteStream& stream, std::size_t count) {
        std::string text;
        std::string chunk(count, '\0');
        while (text.size() < count) {
            const auto got = stream.read(std::span(chunk.data(), count - text.size()), ctx());
            if (!got || *got == 0) return text + "<ended>";
            text.append(chunk, 0, *got);
        }
        return text;
    }

    SystemClock clock;
    std::stop_source stop;
    TestCa ca{"test ca"};
};

bool greet_and_echo(FakeApiServer::Call& call) {
    const std::string head =
        net::write_response_head(101, {{"Connection", "Upgrade"}, {"X-Stream-Protocol-Version", "v4"}});
    (void)call.stream
        .write(head + "early bytes;" + call.head.target + ";" + call.header("authorization") + ";", call.ctx)
        .has_value();
    char chunk[16384];
    while (true) {
        const auto got = call.stream.read(chunk, call.ctx);
        if (!got || *got == 0) break;
        if (!call.stream.write(std::string_view(chunk, *got), call.ctx)) break;
    }
    return false;
}

TEST_F(UpgradeTest, Bytes_behind_the_head_are_not_lost_over_tcp_and_tls) {
    for (const bool with_tls : {false, true}) {
        FakeApiServer server(greet_and_echo, with_tls ? std::optional(tls()) : std::nullopt);
        const auto client = transport(server.url());
        auto upgraded = client->upgrade(exec_request(), ctx());
        ASSERT_TRUE(upgraded) << upgraded.error().message;
        EXPECT_EQ(upgraded->headers.find("x-stream-protocol-version")->second, "v4");
        const std::string expected = "early bytes;/api/v1/namespaces/a/pods/p/exec?command=sh;Bearer t0ken;";
        EXPECT_EQ(read_exactly(*upgraded->stream, expected.size()), expected);
        ASSERT_TRUE(upgraded->stream->write("ping", ctx()));
        EXPECT_EQ(read_exactly(*upgraded->stream, 4), "ping");
        EXPECT_FALSE(upgraded->stream->peer_hung_up());
        ASSERT_TRUE(upgraded->stream->shut_write());
        ASSERT_TRUE(upgraded->stream->shut_write());
        char byte = 0;
        // Over TLS our end is a bare FIN, which the server may call a broken connection.
        const auto end = upgraded->stream->read(std::span(&byte, 1), ctx());
        EXPECT_TRUE(end.has_value() || with_tls);
        EXPECT_EQ(end.value_or(0), 0U);
        EXPECT_FALSE(upgraded->stream->write("late", ctx()));
    }
}

TEST_F(UpgradeTest, A_proxy_is_tunnelled_through) {
    FakeApiServer server(greet_and_echo, tls());
    FakeProxy proxy(server.port());
    const auto client = transport("https://api.internal:6443", proxy.url());
    auto upgraded = client->upgrade(exec_request(), ctx());
    ASSERT_TRUE(upgraded) << upgraded.error().message;
    EXPECT_EQ(proxy.asked_for(), "CONNECT api.internal:6443");
    EXPECT_EQ(read_exactly(*upgraded->stream, 5), "early");
}

TEST_F(UpgradeTest, Reader_and_writer_move_megabytes_at_the_same_time) {
    constexpr std::size_t kTotal = 16U << 20U;
    FakeApiServer server(greet_and_echo, tls());
    const auto client = transport(server.url());
    auto upgraded = client->upgrade(exec_request(), ctx());
    ASSERT_TRUE(upgraded);
    net::ByteStream& stream = *upgraded->stream;
    read_exactly(stream,
                 std::string("early bytes;/api/v1/namespaces/a/pods/p/exec?command=sh;Bearer t0ken;").size());
    Thread writer("writer", [&](const std::stop_token&) {
        std::string block;
        for (std::size_t at = 0; at < kTotal; at += block.size()) {
            block.assign(100'000, static_cast<char>('a' + at / 100'000 % 26));
            block.resize(std::min(block.size(), kTotal - at));
            if (!stream.write(block, ctx())) return;
        }
    });
    std::size_t got = 0;
    std::size_t wrong = 0;
    std::string chunk(50'000, '\0');
    while (got < kTotal) {
        const auto count = stream.read(chunk, ctx());
        ASSERT_TRUE(count) << count.error().message;
        ASSERT_GT(*count, 0U);
        for (std::size_t i = 0; i < *count; ++i, ++got) {
            if (chunk[i] != static_cast<char>('a' + got / 100'000 % 26)) ++wrong;
        }
    }
    EXPECT_EQ(wrong, 0U);
}

TEST_F(UpgradeTest, A_refusal_carries_status_and_message) {
    const std::string status =
        R"({"kind":"Status","code":403,"reason":"Forbidden","message":"pods \"p\" is forbidden"})";
    for (const bool chunked : {false, true}) {
        FakeApiServer server([&](FakeApiServer::Call& call) {
            if (!chunked) {
                call.reply(403, status);
            } else {
                call.begin_chunked(403);
                call.chunk(status.substr(0, 20));
                call.chunk(status.substr(20));
                call.end_chunked();
            }
            call.wait_until_stopped();
            return false;
        });
        const auto refused = transport(server.url())->upgrade(exec_request(), ctx());
        ASSERT_FALSE(refused);
        EXPECT_EQ(refused.error().kind, ErrorKind::Forbidden);
        EXPECT_EQ(refused.error().http_status, 403);
        EXPECT_EQ(refused.error().message, "pods \"p\" is forbidden");
    }
}

TEST_F(UpgradeTest, A_401_is_retried_with_a_fresh_token) {
    TempDir dir;
    FakeApiServer server([](FakeApiServer::Call& call) {
        if (call.header("authorization") == "Bearer new") return greet_and_echo(call);
        call.reply(401, "{}");
        return true;
    });
    ClientConfig config;
    config.server = server.url();
    config.token_file = dir.write("token", "old");
    const auto client = std::move(*CurlTransport::create(config, clock));
    EXPECT_EQ(client->upgrade(exec_request(), ctx()).error().kind, ErrorKind::Unauthorized);
    dir.write("token", "new");
    EXPECT_TRUE(client->upgrade(exec_request(), ctx()));
}

TEST_F(UpgradeTest, Connecting_and_waiting_for_the_head_end_with_the_deadline) {
    FakeApiServer silent([](FakeApiServer::Call& call) {
        call.wait_until_stopped();
        return false;
    });
    const auto late = transport(silent.url())->upgrade(exec_request(), ctx(50ms));
    ASSERT_FALSE(late);
    EXPECT_EQ(late.error().kind, ErrorKind::Timeout);

    std::uint16_t port = 0;
    {
        FakeApiServer gone(greet_and_echo);
        port = gone.port();
    }
    const auto refused =
        transport("http://127.0.0.1:" + std::to_string(port))->upgrade(exec_request(), ctx());
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().kind, ErrorKind::Unavailable);
    EXPECT_THAT(refused.error().message, HasSubstr("Connection refused"));
}

TEST_F(UpgradeTest, Cancel_wakes_reader_and_writer) {
    FakeApiServer server(
        [](FakeApiServer::Call& call) {
            switch_protocols(call, "");
            (void)call.ctx.clock().sleep_until(SteadyTime::max(), call.ctx.stop());  // reads nothing
            return false;
        },
        tls());
    const auto client = transport(server.url());
    auto upgraded = client->upgrade(exec_request(), ctx());
    ASSERT_TRUE(upgraded);
    net::ByteStream& stream = *upgraded->stream;
    std::promise<ErrorKind> read, written;
    Thread reader("reader", [&](const std::stop_token&) {
        char byte = 0;
        read.set_value(stream.read(std::span(&byte, 1), ctx()).error().kind);
    });
    Thread writer("writer", [&](const std::stop_token&) {
        const std::string block(1U << 20U, 'x');
        Result<void> done;
        while (done) done = stream.write(block, ctx());
        written.set_value(done.error().kind);
    });
    clock.sleep_for(20ms, {});
    stream.cancel();
    EXPECT_EQ(read.get_future().get(), ErrorKind::Cancelled);
    EXPECT_EQ(written.get_future().get(), ErrorKind::Cancelled);
}

TEST_F(UpgradeTest, A_reader_notices_that_the_server_left) {
    FakeApiServer server([](FakeApiServer::Call& call) {
        switch_protocols(call, "");
        return false;
    });
    const auto client = transport(server.url());
    auto upgraded = client->upgrade(exec_request(), ctx());
    ASSERT_TRUE(upgraded);
    char byte = 0;
    const auto end = upgraded->stream->read(std::span(&byte, 1), ctx());
    ASSERT_TRUE(end);
    EXPECT_EQ(*end, 0U);
    EXPECT_TRUE(upgraded->stream->peer_hung_up());
}

}  // namespace
}  // namespace k8sgpu::kube
