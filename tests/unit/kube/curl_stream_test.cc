#include <gtest/gtest.h>

#include <atomic>
#include <future>

#include "tests/unit/kube/curl_fixture.h"

namespace k8sgpu::kube {
namespace {

using namespace std::chrono_literals;

class CurlStreamTest : public CurlTransportTest {};

TEST_F(CurlStreamTest, A_stream_gives_chunks_as_they_come_and_its_end) {
    std::promise<void> go;
    FakeApiServer server([&](FakeApiServer::Call& call) {
        call.begin_chunked();
        call.chunk("one\n");
        go.get_future().wait();
        call.chunk("two\n");
        call.end_chunked();
        return true;
    });
    const auto client = transport(config_for(server.url()));
    Request request;
    request.path = "/watch";
    auto stream = client->open(request, ctx());
    ASSERT_TRUE(stream) << stream.error().message;
    EXPECT_EQ((*stream)->status(), 200);
    EXPECT_EQ(*(*stream)->next(ctx()), "one\n");
    EXPECT_EQ((*stream)->next(ctx(20ms)).error().kind, ErrorKind::Timeout);
    go.set_value();
    EXPECT_EQ(*(*stream)->next(ctx()), "two\n");
    EXPECT_EQ(*(*stream)->next(ctx()), "");
    EXPECT_EQ(*(*stream)->next(ctx()), "");
}

TEST_F(CurlStreamTest, A_connection_cut_in_the_middle_of_a_stream_is_not_an_orderly_end) {
    FakeApiServer server([&](FakeApiServer::Call& call) {
        call.begin_chunked();
        call.chunk("half a li");
        return false;
    });
    const auto client = transport(config_for(server.url()));
    Request request;
    request.path = "/watch";
    auto stream = client->open(request, ctx());
    ASSERT_TRUE(stream);
    EXPECT_EQ(*(*stream)->next(ctx()), "half a li");
    EXPECT_EQ((*stream)->next(ctx()).error().kind, ErrorKind::Unavailable);
}

TEST_F(CurlStreamTest, A_slow_reader_stops_the_server_and_loses_nothing) {
    constexpr std::size_t kTotal = 32U << 20U;
    std::atomic<std::size_t> sent{0};
    FakeApiServer server([&](FakeApiServer::Call& call) {
        if (call.head.target == "/version") return echo(call);
        call.begin_chunked();
        std::string block(64U << 10U, 'x');
        while (sent < kTotal && call.chunk(block)) sent += block.size();
        call.end_chunked();
        return false;
    });
    CurlTransportOptions options;
    options.stream_buffer = 256U << 10U;
    const auto client = transport(config_for(server.url()), options);
    Request request;
    request.path = "/watch";
    auto stream = client->open(request, ctx());
    ASSERT_TRUE(stream);
    std::size_t got = (*stream)->next(ctx())->size();
    std::size_t before = 0;
    do {
        before = sent;
        clock.sleep_for(50ms, {});
    } while (sent != before);
    EXPECT_LT(sent, kTotal);
    EXPECT_TRUE(get(*client));  // others go on while this stream stands still
    while (true) {
        const auto chunk = (*stream)->next(ctx());
        ASSERT_TRUE(chunk) << chunk.error().message;
        if (chunk->empty()) break;
        got += chunk->size();
    }
    EXPECT_EQ(got, kTotal);
}

TEST_F(CurlStreamTest, A_cancelled_stream_frees_its_connection_at_once) {
    std::promise<void> left;
    FakeApiServer server([&](FakeApiServer::Call& call) {
        call.begin_chunked();
        call.chunk("x");
        call.wait_until_stopped();
        left.set_value();
        return false;
    });
    const auto client = transport(config_for(server.url()));
    Request request;
    request.path = "/watch";
    auto stream = client->open(request, ctx());
    ASSERT_TRUE(stream);
    EXPECT_EQ(*(*stream)->next(ctx()), "x");
    (*stream)->cancel();
    EXPECT_EQ((*stream)->next(ctx()).error().kind, ErrorKind::Cancelled);
    EXPECT_EQ(left.get_future().wait_for(10s), std::future_status::ready);
}

}  // namespace
}  // namespace k8sgpu::kube
