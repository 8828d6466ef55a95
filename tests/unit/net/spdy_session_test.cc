#include "net/memory_stream.h"
#include "net/spdy/frame.h"
#include "net/spdy/header_codec.h"
#include "net/spdy/session.h"
#include "tests/unit/net/support.h"

namespace k8sgpu::net::spdy {
namespace {

using namespace test;

SpdyOptions as(MuxRole role) {
    SpdyOptions options;
    options.role = role;
    options.name = role == MuxRole::Server ? "srv" : "cli";
    return options;
}

// A server session whose peer the test plays by hand, frame by frame.
struct Scripted {
    explicit Scripted(SpdyOptions options = as(MuxRole::Server), Clock& clock = real_clock(),
                      std::size_t capacity = 64U << 10U) {
        auto [near, far] = make_memory_pair(capacity);
        wire = std::move(far);
        session = std::make_unique<SpdySession>(std::move(near), "", clock, options);
    }
    void send(const std::string& bytes) { ASSERT_OK(wire->write(bytes, soon())); }
    void expect(const std::string& bytes) { EXPECT_EQ(hex(read_exactly(*wire, bytes.size())), hex(bytes)); }
    std::shared_ptr<MuxStream> open_from_peer(std::uint32_t id, const StreamHeaders& headers,
                                              bool fin = false) {
        send(encode_syn_stream(id, *encoder.encode(headers), fin));
        expect(encode_syn_reply(id, *replies.encode({})));
        auto stream = session->accept(soon());
        EXPECT_OK(stream);
        return stream ? *stream : nullptr;
    }
    static std::string hex(const std::string& bytes) {
        std::string out;
        for (const char c : bytes) {
            constexpr std::string_view kDigits = "0123456789abcdef";
            out += kDigits[static_cast<unsigned char>(c) >> 4U];
            out += kDigits[static_cast<unsigned char>(c) & 15U];
        }
        return out;
    }

    HeaderEncoder encoder;
    HeaderEncoder replies;
    std::unique_ptr<MemoryStream> wire;
    std::unique_ptr<SpdySession> session;
};

struct Pair {
    explicit Pair(SpdyOptions server_options = as(MuxRole::Server),
                  SpdyOptions client_options = as(MuxRole::Client), Clock& clock = real_clock()) {
        auto [a, b] = make_memory_pair();
        server = std::make_unique<SpdySession>(std::move(a), "", clock, server_options);
        client = std::make_unique<SpdySession>(std::move(b), "", clock, client_options);
    }
    struct Streams {
        std::shared_ptr<MuxStream> client;
        std::shared_ptr<MuxStream> server;
    };
    Streams open(const StreamHeaders& headers) const {
        auto from = client->open(headers, soon());
        auto to = server->accept(soon());
        EXPECT_OK(from);
        EXPECT_OK(to);
        return {from ? *from : nullptr, to ? *to : nullptr};
    }
    std::unique_ptr<SpdySession> server;
    std::unique_ptr<SpdySession> client;
};

TEST(SpdySession, Serves_the_reference_s_exec_byte_for_byte) {
    Scripted peer;
    const auto error = peer.open_from_peer(1, {{"streamtype", "error"}});
    const auto in = peer.open_from_peer(3, {{"streamtype", "stdin"}});
    const auto out = peer.open_from_peer(5, {{"streamtype", "stdout"}});
    ASSERT_TRUE(error && in && out);
    EXPECT_EQ(error->headers().at("streamtype"), "error");
    EXPECT_EQ(in->id(), 3U);
    peer.send(encode_data(3, "echo", false) + encode_data(3, "", true));
    EXPECT_EQ(read_all(*in).bytes, "echo");
    ASSERT_OK(out->write("hi\n", soon()));
    peer.expect(encode_data(5, "hi\n", false));
    ASSERT_OK(out->shut_write());
    ASSERT_OK(error->write("{\"status\":\"Success\"}", soon()));
    ASSERT_OK(error->shut_write());
    ASSERT_OK(in->shut_write());
    peer.expect(encode_data(5, "", true) + encode_data(1, "{\"status\":\"Success\"}", false) +
                encode_data(1, "", true) + encode_data(3, "", true));
    Thread closer("closer", [&](const std::stop_token&) { peer.session->close(std::chrono::seconds(10)); });
    peer.expect(encode_goaway(5, 0));
    peer.wire.reset();  // the client leaves, which ends the linger
}

TEST(SpdySession, Close_resets_open_streams_says_goaway_and_ends_the_connection) {
    Scripted peer;
    const auto in = peer.open_from_peer(1, {{"streamtype", "stdin"}});
    peer.session->close(Duration(1));
    peer.session->close(Duration(1));
    peer.expect(encode_rst_stream(1, kRstCancel) + encode_goaway(1, 0));
    EXPECT_FALSE(read_all(*peer.wire).error);
    EXPECT_TRUE(peer.session->ended().stop_requested());
    EXPECT_EQ(kind_of(in->write("late", soon())), ErrorKind::Unavailable);
    EXPECT_EQ(kind_of(peer.session->accept(soon())), ErrorKind::Unavailable);
}

TEST(SpdySession, Close_is_short_when_both_sides_close) {
    Pair pair;
    const auto [client, server] = pair.open({{"streamtype", "data"}});
    ASSERT_OK(server->write("bye", soon()));
    ASSERT_OK(server->shut_write());
    Thread leaving("leaving", [&](const std::stop_token&) {
        EXPECT_EQ(kind_of(pair.server->accept(soon())), ErrorKind::Unavailable);
        pair.server->close(std::chrono::hours(1));
    });
    EXPECT_EQ(read_all(*client).bytes, "bye");
    pair.client->close(std::chrono::hours(1));
}

TEST(SpdySession, Close_lets_a_slow_client_have_everything_first) {
    Scripted peer(as(MuxRole::Server), real_clock(), 1000);
    const auto out = peer.open_from_peer(1, {{"streamtype", "stdout"}});
    const auto sent = pattern(60'000);
    ASSERT_OK(out->write(sent, soon()));
    ASSERT_OK(out->shut_write());
    Thread closer("closer", [&](const std::stop_token&) { peer.session->close(Duration(0)); });
    const auto bytes = read_all(*peer.wire).bytes;
    const auto end = encode_data(1, "", true) + encode_goaway(1, 0);
    ASSERT_GT(bytes.size(), sent.size());
    EXPECT_EQ(bytes.substr(bytes.size() - end.size()), end);
}

TEST(SpdySession, Ping_is_echoed_and_the_answer_to_our_own_is_not) {
    Scripted peer;
    peer.send(encode_ping(2) + encode_ping(1) + encode_ping(3));
    peer.expect(encode_ping(1) + encode_ping(3));
}

TEST(SpdySession, Ids_that_do_not_ascend_are_refused_and_keep_the_header_context) {
    Scripted peer;
    peer.open_from_peer(5, {{"streamtype", "error"}});
    peer.send(encode_syn_stream(3, *peer.encoder.encode({{"streamtype", "stdin"}})));
    peer.expect(encode_rst_stream(3, kRstProtocolError));
    peer.send(encode_syn_stream(5, *peer.encoder.encode({{"streamtype", "stdin"}})));
    peer.expect(encode_rst_stream(5, kRstProtocolError));
    const auto next = peer.open_from_peer(7, {{"streamtype", "stdout"}});
    ASSERT_TRUE(next);
    EXPECT_EQ(next->headers().at("streamtype"), "stdout");
}

TEST(SpdySession, Streams_beyond_the_limit_are_refused_until_one_ends) {
    auto options = as(MuxRole::Server);
    options.max_streams = 2;
    Scripted peer(options);
    const auto first = peer.open_from_peer(1, {{"a", "1"}});
    peer.open_from_peer(3, {{"a", "2"}});
    peer.send(encode_syn_stream(5, *peer.encoder.encode({{"a", "3"}})));
    peer.expect(encode_rst_stream(5, kRstRefused));
    first->reset();
    peer.expect(encode_rst_stream(1, kRstCancel));
    EXPECT_TRUE(peer.open_from_peer(7, {{"a", "4"}}));
}

TEST(SpdySession, Data_for_unknown_and_finished_streams_is_dropped) {
    Scripted peer;
    const auto stream = peer.open_from_peer(1, {{"a", "1"}}, /*fin=*/true);
    peer.send(encode_data(1, "after the end", false) + encode_data(99, "nobody's", true) + encode_ping(1));
    peer.expect(encode_ping(1));
    EXPECT_EQ(read_all(*stream).bytes, "");
    ASSERT_OK(stream->write("still open our way", soon()));
}

TEST(SpdySession, Early_bytes_are_part_of_the_session) {
    auto [near, far] = make_memory_pair();
    SpdySession session(std::move(near), encode_ping(1).substr(0, 5), real_clock(), as(MuxRole::Server));
    ASSERT_OK(far->write(encode_ping(1).substr(5), soon()));
    EXPECT_EQ(read_exactly(*far, 12), encode_ping(1));
}

TEST(SpdySession, Nonsense_ends_the_session) {
    Scripted peer;
    const auto stream = peer.open_from_peer(1, {{"a", "1"}});
    peer.send(from_hex("80030063 00000000"));
    EXPECT_EQ(read_all(*stream).error->kind, ErrorKind::Protocol);
    EXPECT_EQ(peer.session->end_reason().kind, ErrorKind::Protocol);
}

TEST(SpdySession, Both_sides_exchange_and_half_close) {
    Pair pair;
    const auto [client, server] = pair.open({{"StreamType", "data"}, {"port", "80"}});
    EXPECT_EQ(server->headers(), (StreamHeaders{{"streamtype", "data"}, {"port", "80"}}));
    const auto question = pattern(300'000);
    Thread asker("asker", [&, &to = *client](const std::stop_token&) {
        EXPECT_OK(to.write(question, soon()));
        EXPECT_OK(to.shut_write());
    });
    EXPECT_EQ(read_all(*server).bytes, question);
    ASSERT_OK(server->write("answer", soon()));
    ASSERT_OK(server->shut_write());
    const auto answer = read_all(*client);
    EXPECT_EQ(answer.bytes, "answer");
    EXPECT_FALSE(answer.error);
    EXPECT_EQ(kind_of(server->write("more", soon())), ErrorKind::Invalid);
    // The server may open streams as well.
    auto opened = pair.server->open({{"a", "b"}}, soon());
    ASSERT_OK(opened);
    EXPECT_EQ((*opened)->id(), 2U);
}

TEST(SpdySession, Reset_reaches_the_peer_and_ends_both_directions) {
    Pair pair;
    const auto [client, server] = pair.open({{"streamtype", "data"}});
    const auto [other_client, other_server] = pair.open({{"streamtype", "data"}});
    client->reset();
    client->reset();
    const auto received = read_all(*server);
    ASSERT_TRUE(received.error);
    EXPECT_EQ(received.error->kind, ErrorKind::Unavailable);
    EXPECT_EQ(kind_of(server->write("x", soon())), ErrorKind::Unavailable);
    std::array<char, 4> buffer;
    EXPECT_EQ(kind_of(client->read(buffer, soon())), ErrorKind::Cancelled);
    ASSERT_OK(other_client->write("unharmed", soon()));
    EXPECT_EQ(read_exactly(*other_server, 8), "unharmed");
}

TEST(SpdySession, Slow_reader_loses_nothing_and_costs_bounded_memory) {
    Pair pair;
    const auto [client, server] = pair.open({{"streamtype", "data"}});
    const auto sent = pattern(4U << 20U);
    std::size_t written = 0;
    while (client->write(std::string_view(sent).substr(written, 4096), within(Duration(200))))
        written += 4096;
    // Nobody read: the stream's buffer, the wire, the outbox's share and batch, and the two threads' hands.
    EXPECT_LE(written, (256U + 64U + 96U + 64U + 64U) << 10U);
    Thread writer("writer", [&, &to = *client](const std::stop_token&) {
        EXPECT_OK(to.write(std::string_view(sent).substr(written), soon()));
        EXPECT_OK(to.shut_write());
    });
    EXPECT_TRUE(sent == read_all(*server).bytes);
}

TEST(SpdySession, Write_that_is_cut_short_leaves_the_session_whole) {
    Pair pair;
    const auto [client, server] = pair.open({{"streamtype", "data"}});
    EXPECT_EQ(kind_of(client->write(std::string(8U << 20U, 'x'), within(Duration(50)))), ErrorKind::Timeout);
    client->reset();
    server->reset();
    const auto [next_client, next_server] = pair.open({{"streamtype", "data"}});
    ASSERT_OK(next_client->write("in order", soon()));
    EXPECT_EQ(read_exactly(*next_server, 8), "in order");
}

TEST(SpdySession, One_busy_stream_does_not_starve_another) {
    Pair pair;
    const auto [busy_client, busy_server] = pair.open({{"streamtype", "data"}});
    const auto [quiet_client, quiet_server] = pair.open({{"streamtype", "data"}});
    Thread writer("writer", [&to = *busy_client](const std::stop_token&) {
        const std::string block(100'000, 'x');
        while (to.write(block, soon())) {
        }
    });
    Thread reader("reader", [&from = *busy_server](const std::stop_token&) {
        std::array<char, 16384> buffer;
        while (from.read(buffer, soon())) {
        }
    });
    for (int i = 0; i < 50; ++i) {
        ASSERT_OK(quiet_client->write("ping", soon()));
        EXPECT_EQ(read_exactly(*quiet_server, 4), "ping");
    }
    pair.client.reset();
}

TEST(SpdySession, Many_streams_share_a_connection) {
    Pair pair;
    constexpr int kStreams = 300;
    std::vector<Pair::Streams> streams;
    for (int i = 0; i < kStreams; ++i) streams.push_back(pair.open({{"requestid", std::to_string(i)}}));
    for (int i = 0; i < kStreams; ++i) {
        ASSERT_OK(streams[static_cast<std::size_t>(i)].client->write(std::to_string(i), soon()));
        ASSERT_OK(streams[static_cast<std::size_t>(i)].client->shut_write());
    }
    for (int i = kStreams; i-- > 0;) {
        EXPECT_EQ(read_all(*streams[static_cast<std::size_t>(i)].server).bytes, std::to_string(i));
    }
}

TEST(SpdySession, Vanishing_peer_ends_everything) {
    Scripted peer;
    const auto stream = peer.open_from_peer(1, {{"streamtype", "stdin"}});
    std::atomic<bool> told{false};
    const std::stop_callback on_end(peer.session->ended(), [&] { told = true; });
    peer.send(encode_data(1, "last words", false));
    Thread acceptor("acceptor", [&](const std::stop_token&) {
        EXPECT_EQ(kind_of(peer.session->accept(soon())), ErrorKind::Unavailable);
    });
    peer.wire->break_connection();
    const auto received = read_all(*stream);
    EXPECT_EQ(received.bytes, "last words");
    ASSERT_TRUE(received.error) << "an end without FIN must not look like one";
    EXPECT_EQ(received.error->kind, ErrorKind::Unavailable);
    acceptor.join();
    EXPECT_EQ(kind_of(stream->write("x", soon())), ErrorKind::Unavailable);
    peer.session->close(std::chrono::seconds(10));
    EXPECT_TRUE(told);
}

TEST(SpdySession, Server_notices_a_client_that_leaves_while_its_consumer_is_stuck) {
    auto options = as(MuxRole::Server);
    options.stream_buffer = 100;
    options.idle_timeout = Duration::zero();
    FakeClock clock;
    Scripted peer(options, clock);
    const auto stream = peer.open_from_peer(1, {{"streamtype", "stdin"}});
    peer.send(encode_data(1, std::string(1000, 'x'), false));  // the reader now waits for somebody to read
    ASSERT_TRUE(clock.wait_for_sleepers(2));
    peer.wire.reset();
    while (!peer.session->ended().stop_requested()) clock.advance(Duration(1000));
    EXPECT_EQ(peer.session->end_reason().kind, ErrorKind::Unavailable);
}

TEST(SpdySession, Client_reads_what_a_server_said_before_it_left) {
    auto options = as(MuxRole::Client);
    options.stream_buffer = 1000;
    auto [near, far] = make_memory_pair(1U << 20U);
    SpdySession client(std::move(near), "", real_clock(), options);
    HeaderEncoder replies;
    const auto sent = pattern(50'000);
    // The acknowledgement may come before the question: the session only wants it behind the stream's birth.
    Thread server("server", [&, &wire = *far](const std::stop_token&) {
        read_exactly(wire, 8);
        EXPECT_OK(wire.write(
            encode_syn_reply(1, *replies.encode({})) + encode_data(1, sent, true) + encode_goaway(1, 0),
            soon()));
    });
    auto stream = client.open({{"streamtype", "stdout"}}, soon());
    ASSERT_OK(stream);
    server.join();
    far.reset();
    const auto received = read_all(**stream);
    EXPECT_TRUE(received.bytes == sent);
    EXPECT_FALSE(received.error);
}

TEST(SpdySession, Cancel_wakes_everybody_and_streams_outlive_the_session) {
    Pair pair;
    auto [client, server] = pair.open({{"streamtype", "data"}});
    Thread reader("reader", [stream = client](const std::stop_token&) {
        std::array<char, 4> buffer;
        EXPECT_EQ(kind_of(stream->read(buffer, soon())), ErrorKind::Cancelled);
    });
    Thread writer("writer", [stream = client](const std::stop_token&) {
        EXPECT_EQ(kind_of(stream->write(std::string(8U << 20U, 'x'), soon())), ErrorKind::Cancelled);
    });
    Thread acceptor("acceptor", [&](const std::stop_token&) {
        EXPECT_EQ(kind_of(pair.client->accept(soon())), ErrorKind::Cancelled);
    });
    read_exactly(*server, 1000);
    pair.client->cancel();
    reader.join();
    writer.join();
    acceptor.join();
    EXPECT_EQ(kind_of(pair.client->open({{"a", "b"}}, soon())), ErrorKind::Cancelled);
    pair.client.reset();
    EXPECT_EQ(kind_of(client->write("x", soon())), ErrorKind::Cancelled);
    client->reset();
}

TEST(SpdySession, Cancelled_stream_still_sends_what_was_written) {
    Scripted peer;
    const auto out = peer.open_from_peer(1, {{"streamtype", "stdout"}});
    ASSERT_OK(out->write("written before", soon()));
    out->cancel();
    EXPECT_EQ(kind_of(out->write("after", soon())), ErrorKind::Cancelled);
    ASSERT_OK(out->shut_write());
    peer.expect(encode_data(1, "written before", false) + encode_data(1, "", true));
}

TEST(SpdySession, Open_fails_when_refused_unanswered_or_after_the_peer_s_goodbye) {
    auto options = as(MuxRole::Client);
    auto [near, far] = make_memory_pair();
    SpdySession client(std::move(near), "", real_clock(), options);
    Thread refuser("refuser", [&wire = *far](const std::stop_token&) {
        read_exactly(wire, 8);
        EXPECT_OK(wire.write(encode_rst_stream(1, kRstRefused), soon()));
    });
    EXPECT_EQ(kind_of(client.open({{"a", "b"}}, soon())), ErrorKind::Unavailable);
    EXPECT_EQ(kind_of(client.open({{"a", "b"}}, within(Duration(10)))), ErrorKind::Timeout);
    refuser.join();
    ASSERT_OK(far->write(encode_goaway(0, 0), soon()));
    EXPECT_EQ(kind_of(client.accept(soon())), ErrorKind::Unavailable);
    EXPECT_EQ(kind_of(client.open({{"a", "b"}}, soon())), ErrorKind::Unavailable);
}

TEST(SpdySession, A_stream_that_is_reset_right_after_its_reply_was_open) {
    auto [near, far] = make_memory_pair();
    SpdySession client(std::move(near), "", real_clock(), as(MuxRole::Client));
    Thread peer("peer", [&wire = *far](const std::stop_token&) {
        read_exactly(wire, 8);
        const std::string block = HeaderEncoder().encode({}).value();
        EXPECT_OK(wire.write(encode_syn_reply(1, block) + encode_rst_stream(1, kRstCancel), soon()));
    });
    EXPECT_TRUE(client.open({{"a", "b"}}, soon()));
}

TEST(SpdySession, Idle_session_ends_after_its_limit_and_pings_keep_it_alive) {
    FakeClock clock;
    auto options = as(MuxRole::Server);
    options.idle_timeout = std::chrono::hours(4);
    Scripted peer(options, clock);
    ASSERT_TRUE(clock.wait_for_sleepers(1));
    clock.advance(std::chrono::hours(3));
    peer.send(encode_ping(1));
    peer.expect(encode_ping(1));
    ASSERT_TRUE(clock.wait_for_sleepers(2));
    clock.advance(std::chrono::hours(3));
    peer.send(encode_ping(3));
    peer.expect(encode_ping(3));
    EXPECT_FALSE(peer.session->ended().stop_requested());
    while (!peer.session->ended().stop_requested()) clock.advance(std::chrono::hours(1));
    EXPECT_EQ(peer.session->end_reason().kind, ErrorKind::Timeout);
}

TEST(SpdySession, Client_pings_and_gives_up_on_silence) {
    FakeClock clock;
    auto options = as(MuxRole::Client);
    options.ping_interval = std::chrono::seconds(5);
    options.silence_limit = std::chrono::seconds(61);
    options.idle_timeout = Duration::zero();
    Scripted peer(options, clock);
    ASSERT_TRUE(clock.wait_for_sleepers(1));
    clock.advance(std::chrono::seconds(5));
    peer.expect(encode_ping(1));
    clock.advance(std::chrono::seconds(5));
    peer.expect(encode_ping(3));
    clock.advance(std::chrono::seconds(52));
    Thread drain("drain", [&](const std::stop_token&) { read_all(*peer.wire); });
    while (!peer.session->ended().stop_requested()) clock.advance(std::chrono::seconds(1));
    EXPECT_EQ(peer.session->end_reason().kind, ErrorKind::Unavailable);
    peer.session.reset();
}

TEST(SpdySession, Peer_that_asks_without_reading_is_cut_off) {
    Scripted peer(as(MuxRole::Server), real_clock(), 1000);
    std::string pings;
    for (int i = 0; i < 1000; ++i) pings += encode_ping(1);
    Thread asker("asker", [&](const std::stop_token&) {
        while (peer.wire->write(pings, soon())) {
        }
    });
    EXPECT_EQ(kind_of(peer.session->accept(soon())), ErrorKind::Protocol);
    peer.wire->cancel();
    EXPECT_EQ(peer.session->end_reason().kind, ErrorKind::Protocol);
}

}  // namespace
}  // namespace k8sgpu::net::spdy
