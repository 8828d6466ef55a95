#include "net/memory_stream.h"

#include "tests/unit/net/support.h"

namespace k8sgpu::net {
namespace {

using namespace test;

TEST(MemoryStream, Carries_bytes_both_ways_and_half_closes) {
    auto [a, b] = make_memory_pair();
    ASSERT_OK(a->write("question", soon()));
    ASSERT_OK(a->shut_write());
    EXPECT_EQ(read_all(*b).bytes, "question");
    ASSERT_OK(b->write("answer", soon()));
    EXPECT_EQ(read_exactly(*a, 6), "answer");
    EXPECT_EQ(kind_of(a->write("more", soon())), ErrorKind::Invalid);
}

TEST(MemoryStream, Slow_reader_blocks_the_writer_and_loses_nothing) {
    auto [a, b] = make_memory_pair(1000);
    const auto sent = pattern(100'000);
    EXPECT_EQ(kind_of(a->write(std::string(1001, 'x'), within(Duration(20)))), ErrorKind::Timeout);
    read_exactly(*b, 1000);
    Thread writer("writer", [&, &from = a](const std::stop_token&) {
        EXPECT_OK(from->write(sent, soon()));
        EXPECT_OK(from->shut_write());
    });
    const auto received = read_all(*b);
    EXPECT_FALSE(received.error);
    EXPECT_EQ(received.bytes, sent);
}

TEST(MemoryStream, Cancel_wakes_reader_and_writer_and_stays) {
    auto [a, b] = make_memory_pair(10);
    auto& stream = *a;
    Thread reader("reader", [&](const std::stop_token&) {
        std::array<char, 4> buffer;
        EXPECT_EQ(kind_of(stream.read(buffer, soon())), ErrorKind::Cancelled);
    });
    Thread writer("writer", [&](const std::stop_token&) {
        EXPECT_EQ(kind_of(stream.write(std::string(100, 'x'), soon())), ErrorKind::Cancelled);
    });
    read_exactly(*b, 10);  // the writer has begun
    stream.cancel();
    reader.join();
    writer.join();
    std::array<char, 4> buffer;
    EXPECT_EQ(kind_of(stream.read(buffer, soon())), ErrorKind::Cancelled);
}

TEST(MemoryStream, Stop_token_ends_a_read) {
    auto [a, b] = make_memory_pair();
    std::stop_source stop;
    const auto ctx = soon().with_stop(stop.get_token());
    auto& stream = *a;
    Thread reader("reader", [&](const std::stop_token&) {
        std::array<char, 4> buffer;
        EXPECT_EQ(kind_of(stream.read(buffer, ctx)), ErrorKind::Cancelled);
    });
    stop.request_stop();
}

TEST(MemoryStream, Destroyed_end_ends_the_peer_s_read_and_fails_its_write) {
    auto [a, b] = make_memory_pair();
    ASSERT_OK(b->write("last words", soon()));
    b.reset();
    EXPECT_TRUE(a->peer_hung_up());
    const auto received = read_all(*a);
    EXPECT_EQ(received.bytes, "last words");
    EXPECT_FALSE(received.error);
    EXPECT_EQ(kind_of(a->write("x", soon())), ErrorKind::Unavailable);
}

TEST(MemoryStream, Broken_connection_delivers_what_had_arrived_and_then_fails) {
    auto [a, b] = make_memory_pair();
    ASSERT_OK(b->write("last words", soon()));
    b->break_connection();
    const auto received = read_all(*a);
    EXPECT_EQ(received.bytes, "last words");
    ASSERT_TRUE(received.error);
    EXPECT_EQ(received.error->kind, ErrorKind::Unavailable);
}

}  // namespace
}  // namespace k8sgpu::net
