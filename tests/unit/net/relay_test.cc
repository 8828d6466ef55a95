#include "net/relay.h"

#include <sys/socket.h>

#include <atomic>
#include <thread>
#include <vector>

#include "net/memory_stream.h"
#include "net/socket_stream.h"
#include "net/spdy/session.h"
#include "tests/unit/net/support.h"

namespace k8sgpu::net {
namespace {

using namespace test;

struct SocketPair {
    std::unique_ptr<SocketStream> first, second;
};
SocketPair make_socket_pair() {
    int fds[2] = {};
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    return {std::make_unique<SocketStream>(Fd(fds[0])), std::make_unique<SocketStream>(Fd(fds[1]))};
}

// near ⇄ relay ⇄ far, as a forwarded connection.
template <typename Near, typename Far>
void join(Relay& relay, Near& near, Far& far, std::atomic<int>& ended) {
    const auto both = [&](ByteStream& from, ByteStream& to) {
        ASSERT_OK(relay.copy(from, to, [&](const Relay::End& end) {
            EXPECT_FALSE(end.error) << end.error->message;
            EXPECT_TRUE(to.shut_write());
            ++ended;
        }));
    };
    both(near, far);
    both(far, near);
}

TEST(Relay, Carries_both_ways_between_memory_and_sockets) {
    auto memory = make_memory_pair(5000);
    auto sockets = make_socket_pair();
    Relay relay;
    std::atomic<int> ended{0};
    join(relay, *memory.second, *sockets.first, ended);
    const Thread runner(
        "relay", [&](const std::stop_token&) { EXPECT_OK(relay.run(soon(), [&] { return ended == 2; })); });
    const auto forth = pattern(3'000'000, 1), back = pattern(2'000'000, 2);
    const Thread writer("writer", [&](const std::stop_token&) {
        EXPECT_OK(memory.first->write(forth, soon()));
        EXPECT_OK(memory.first->shut_write());
    });
    const Thread answerer("answerer", [&](const std::stop_token&) {
        EXPECT_OK(sockets.second->write(back, soon()));
        EXPECT_OK(sockets.second->shut_write());
    });
    const Thread reader(
        "reader", [&](const std::stop_token&) { EXPECT_TRUE(read_all(*sockets.second).bytes == forth); });
    EXPECT_TRUE(read_all(*memory.first).bytes == back);
}

TEST(Relay, A_destination_that_takes_nothing_holds_up_no_other_flow) {
    auto stuck = make_socket_pair(), deaf = make_socket_pair();
    auto from = make_memory_pair(), to = make_memory_pair();
    Relay relay;
    std::atomic<bool> ended{false};
    ASSERT_OK(relay.copy(*stuck.first, *deaf.first, {}));
    ASSERT_OK(relay.copy(*from.second, *to.first, [&](const Relay::End&) { ended = true; }));
    const Thread runner(
        "relay", [&](const std::stop_token&) { EXPECT_OK(relay.run(soon(), [&] { return ended.load(); })); });
    // Until nothing moves any more: what nobody reads is bounded.
    std::size_t taken = 0;
    const std::string block(64U << 10U, 'x');
    while (stuck.second->write(block, within(Duration(300)))) ASSERT_LT(taken += block.size(), 64U << 20U);
    const Thread writer("writer", [&](const std::stop_token&) {
        EXPECT_OK(from.first->write(pattern(1'000'000), soon()));
        EXPECT_OK(from.first->shut_write());
    });
    EXPECT_TRUE(read_exactly(*to.second, 1'000'000) == pattern(1'000'000));
}

TEST(Relay, Says_which_side_failed) {
    auto from = make_memory_pair(), to = make_memory_pair();
    Relay relay;
    std::optional<Relay::End> end;
    const auto done = [&](const Relay::End& how) { end = how; };
    ASSERT_OK(relay.copy(*from.second, *to.first, done));
    from.first->break_connection();
    ASSERT_OK(relay.run(soon(), [&] { return end.has_value(); }));
    ASSERT_TRUE(end->error);
    EXPECT_FALSE(end->at_destination);

    auto again = make_memory_pair();
    end.reset();
    ASSERT_OK(relay.copy(*again.second, *to.first, done));
    to.second.reset();
    to.first->break_connection();
    ASSERT_OK(again.first->write("x", soon()));
    ASSERT_OK(relay.run(soon(), [&] { return end.has_value(); }));
    ASSERT_TRUE(end->error);
    EXPECT_TRUE(end->at_destination);
}

TEST(Relay, Ends_with_its_context_and_does_what_is_posted) {
    Relay relay;
    std::stop_source stop;
    relay.post([&] { stop.request_stop(); });
    const auto ended =
        relay.run(CallContext::until_stopped(real_clock(), stop.get_token()), [] { return false; });
    EXPECT_EQ(kind_of(ended), ErrorKind::Cancelled);
    EXPECT_EQ(kind_of(relay.run(within(Duration(20)), [] { return false; })), ErrorKind::Timeout);
}

TEST(Relay, A_dropped_flow_ends_without_a_word_and_its_streams_may_go) {
    auto from = make_memory_pair(), to = make_memory_pair();
    Relay relay;
    const auto ticket = relay.copy(*from.second, *to.first, [](const Relay::End&) { ADD_FAILURE(); });
    ASSERT_OK(ticket);
    relay.drop(*ticket);
    EXPECT_EQ(relay.flows(), 0U);
    from.second.reset();
    to.first.reset();
    EXPECT_EQ(kind_of(relay.run(within(Duration(20)), [] { return false; })), ErrorKind::Timeout);
}

// A client's SPDY session on one side, sockets on the other: one thread for all of it.
TEST(Relay, Serves_a_thousand_streams_of_a_session) {
    constexpr std::size_t kStreams = 1000;
    auto wire = make_memory_pair();
    spdy::SpdyOptions as_client;
    as_client.role = MuxRole::Client;
    spdy::SpdySession client(std::move(wire.first), "", real_clock(), as_client);
    spdy::SpdySession server(std::move(wire.second), "", real_clock(), {});
    std::vector<std::shared_ptr<MuxStream>> ours, theirs;
    for (std::size_t i = 0; i < kStreams; ++i) {
        auto stream = client.open_at_once({{"n", std::to_string(i)}}, soon());
        ASSERT_OK(stream);
        ours.push_back(*stream);
        auto accepted = server.accept(soon());
        ASSERT_OK(accepted);
        theirs.push_back(*accepted);
    }
    Relay relay;
    std::atomic<std::size_t> ended{0};
    // Each is answered by itself: an echo.
    for (const auto& stream : theirs) {
        ASSERT_OK(relay.copy(*stream, *stream, [&, stream](const Relay::End& end) {
            EXPECT_FALSE(end.error);
            EXPECT_TRUE(stream->shut_write());
            ++ended;
        }));
    }
    const Thread runner("relay", [&](const std::stop_token&) {
        EXPECT_OK(relay.run(soon(), [&] { return ended == kStreams; }));
    });
    for (std::size_t i = 0; i < kStreams; ++i) {
        ASSERT_OK(ours[i]->write(pattern(2000, static_cast<std::uint32_t>(i)), soon()));
        ASSERT_OK(ours[i]->shut_write());
    }
    for (std::size_t i = 0; i < kStreams; ++i) {
        const auto got = read_all(*ours[i]);
        ASSERT_TRUE(got.bytes == pattern(2000, static_cast<std::uint32_t>(i)) && !got.error) << i;
    }
}

// The stream of a reader that has stopped takes spare room, and the others of its session go on.
TEST(Relay, A_stream_that_nobody_reads_leaves_its_session_alive_as_long_as_there_is_spare_room) {
    auto wire = make_memory_pair();
    auto spare = std::make_shared<BufferPool>(8U << 20U);
    spdy::SpdyOptions as_client, as_server;
    as_client.role = MuxRole::Client;
    as_server.spare = spare;
    as_server.stream_buffer = 16U << 10U;
    spdy::SpdySession client(std::move(wire.first), "", real_clock(), as_client);
    auto server = std::make_unique<spdy::SpdySession>(std::move(wire.second), "", real_clock(), as_server);
    const auto stuck = *client.open({{"n", "1"}}, soon());
    const auto unread = *server->accept(soon());
    ASSERT_OK(stuck->write(pattern(4U << 20U), soon()));
    const auto lively = *client.open({{"n", "2"}}, soon());
    const auto read = *server->accept(soon());
    ASSERT_OK(lively->write("still here", soon()));
    EXPECT_EQ(read_exactly(*read, 10), "still here");
    EXPECT_GT(spare->used(), 3U << 20U);
    // Whoever reads after all gets everything, and gives the room back.
    EXPECT_TRUE(read_exactly(*unread, 4U << 20U) == pattern(4U << 20U));
    EXPECT_EQ(spare->used(), 0U);
}

TEST(BufferPool, A_child_takes_from_its_parent_too_and_all_or_nothing) {
    auto parent = std::make_shared<BufferPool>(100);
    BufferPool one(80, parent), other(80, parent);
    EXPECT_TRUE(one.take(80));
    EXPECT_FALSE(one.take(1));
    EXPECT_FALSE(other.take(21));
    EXPECT_TRUE(other.take(20));
    EXPECT_EQ(parent->used(), 100U);
    one.give(80);
    EXPECT_TRUE(other.take(60));
    EXPECT_EQ(parent->used(), 80U);
}

}  // namespace
}  // namespace k8sgpu::net
