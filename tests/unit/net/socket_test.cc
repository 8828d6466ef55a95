#include <sys/socket.h>

#include "net/dial.h"
#include "net/listener.h"
#include "net/memory_stream.h"
#include "net/pump.h"
#include "net/socket_stream.h"
#include "tests/unit/net/support.h"

namespace k8sgpu::net {
namespace {

using namespace test;

struct Connected {
    std::unique_ptr<SocketStream> client;
    std::unique_ptr<SocketStream> server;
};

Connected connect_over(const std::string& address) {
    auto listener = Listener::open(address, 0);
    if (!listener) return {};
    auto client = dial(address, (*listener)->port(), soon());
    auto server = (*listener)->accept(soon());
    if (!client || !server) return {};
    return {std::make_unique<SocketStream>(*std::move(client)),
            std::make_unique<SocketStream>(*std::move(server))};
}

TEST(Socket, Listens_on_a_free_port_and_connects) {
    auto pair = connect_over("127.0.0.1");
    ASSERT_TRUE(pair.client);
    EXPECT_EQ(peer_endpoint(pair.client->fd()).address, "127.0.0.1");
    EXPECT_EQ(peer_endpoint(pair.server->fd()).port, local_endpoint(pair.client->fd()).port);
    ASSERT_OK(pair.client->write("hello", soon()));
    ASSERT_OK(pair.client->shut_write());
    EXPECT_EQ(read_all(*pair.server).bytes, "hello");
    EXPECT_TRUE(pair.server->peer_hung_up());
    EXPECT_FALSE(pair.client->peer_hung_up());
    ASSERT_OK(pair.server->write("bye", soon()));
    EXPECT_EQ(read_exactly(*pair.client, 3), "bye");
}

TEST(Socket, Listens_on_ipv6_where_the_host_has_it) {
    if (auto listener = Listener::open("::1", 0); !listener) GTEST_SKIP() << listener.error().message;
    auto pair = connect_over("::1");
    ASSERT_TRUE(pair.client);
    EXPECT_EQ(peer_endpoint(pair.server->fd()).address, "::1");
}

TEST(Socket, Empty_address_listens_on_every_address_and_shows_ipv4_peers_as_such) {
    auto listener = Listener::open("", 0);
    ASSERT_OK(listener);
    auto client = dial("127.0.0.1", (*listener)->port(), soon());
    ASSERT_OK(client);
    auto server = (*listener)->accept(soon());
    ASSERT_OK(server);
    EXPECT_EQ(peer_endpoint(server->get()).address, "127.0.0.1");
}

TEST(Socket, Listen_errors_tell_why) {
    EXPECT_EQ(kind_of(Listener::open("node.example", 0)), ErrorKind::Invalid);
    auto listener = Listener::open("127.0.0.1", 0);
    ASSERT_OK(listener);
    EXPECT_EQ(kind_of(Listener::open("127.0.0.1", (*listener)->port())), ErrorKind::Unavailable);
}

TEST(Socket, Refused_connection_is_unavailable) {
    std::uint16_t port = 0;
    {
        auto listener = Listener::open("127.0.0.1", 0);
        ASSERT_OK(listener);
        port = (*listener)->port();
    }
    EXPECT_EQ(kind_of(dial("127.0.0.1", port, soon())), ErrorKind::Unavailable);
}

TEST(Socket, Accept_ends_by_cancel_and_by_deadline) {
    auto listener = Listener::open("127.0.0.1", 0);
    ASSERT_OK(listener);
    EXPECT_EQ(kind_of((*listener)->accept(within(Duration(5)))), ErrorKind::Timeout);
    Thread acceptor("accept", [&](const std::stop_token&) {
        EXPECT_EQ(kind_of((*listener)->accept(soon())), ErrorKind::Cancelled);
    });
    (*listener)->cancel();
}

TEST(Socket, Read_and_write_end_by_stop_token_and_cancel) {
    auto pair = connect_over("127.0.0.1");
    ASSERT_TRUE(pair.client);
    std::stop_source stop;
    Thread reader("reader", [&](const std::stop_token&) {
        std::array<char, 4> buffer;
        EXPECT_EQ(kind_of(pair.client->read(buffer, soon().with_stop(stop.get_token()))),
                  ErrorKind::Cancelled);
        // The signal of that token must not disturb the next wait.
        EXPECT_EQ(kind_of(pair.client->read(buffer, within(Duration(10)))), ErrorKind::Timeout);
        EXPECT_EQ(kind_of(pair.client->read(buffer, soon())), ErrorKind::Cancelled);
    });
    stop.request_stop();
    Thread writer("writer", [&](const std::stop_token&) {
        EXPECT_EQ(kind_of(pair.client->write(std::string(64U << 20U, 'x'), soon())), ErrorKind::Cancelled);
    });
    read_exactly(*pair.server, 100'000);
    pair.client->cancel();
}

TEST(Socket, Vanished_peer_is_unavailable) {
    auto pair = connect_over("127.0.0.1");
    ASSERT_TRUE(pair.client);
    const linger hard{1, 0};  // close sends RST
    ::setsockopt(pair.server->fd(), SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    pair.server.reset();
    std::array<char, 4> buffer;
    EXPECT_EQ(kind_of(pair.client->read(buffer, soon())), ErrorKind::Unavailable);
    EXPECT_EQ(kind_of(pair.client->write("x", soon())), ErrorKind::Unavailable);
}

TEST(Pump, Copies_both_ways_and_passes_on_each_half_close) {
    auto [client, near] = make_memory_pair(1000);
    auto [far, server] = make_memory_pair(1000);
    Thread pump("pump-test",
                [&a = *near, &b = *far](const std::stop_token&) { EXPECT_OK(pump_both_ways(a, b, soon())); });
    const auto question = pattern(50'000, 1);
    Thread asker("asker", [&, &to = *client](const std::stop_token&) {
        EXPECT_OK(to.write(question, soon()));
        EXPECT_OK(to.shut_write());
    });
    EXPECT_EQ(read_all(*server).bytes, question);
    ASSERT_OK(server->write("answer", soon()));
    ASSERT_OK(server->shut_write());
    EXPECT_EQ(read_all(*client).bytes, "answer");
}

TEST(Pump, Ends_when_the_second_side_ends_if_told_so) {
    auto [client, near] = make_memory_pair();
    auto [far, server] = make_memory_pair();
    ASSERT_OK(server->write("bye", soon()));
    ASSERT_OK(server->shut_write());
    ASSERT_OK(pump_both_ways(*near, *far, soon(), PumpUntil::SecondEnded));
    EXPECT_EQ(read_all(*client).bytes, "bye");
}

TEST(Pump, Error_of_one_direction_ends_the_other) {
    auto [client, near] = make_memory_pair();
    auto [far, server] = make_memory_pair();
    server->break_connection();
    EXPECT_EQ(kind_of(pump_both_ways(*near, *far, soon())), ErrorKind::Unavailable);
}

TEST(Pump, Stop_token_ends_it) {
    auto [client, near] = make_memory_pair();
    auto [far, server] = make_memory_pair();
    std::stop_source stop;
    Thread pump("pump-test", [&, &a = *near, &b = *far](const std::stop_token&) {
        EXPECT_EQ(kind_of(pump_both_ways(a, b, soon().with_stop(stop.get_token()))), ErrorKind::Cancelled);
    });
    stop.request_stop();
}

}  // namespace
}  // namespace k8sgpu::net
