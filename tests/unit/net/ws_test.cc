#include "common/encoding.h"
#include "net/memory_stream.h"
#include "net/spdy/session.h"
#include "net/ws/channel_session.h"
#include "net/ws/frame.h"
#include "net/ws/message_stream.h"
#include "tests/unit/net/support.h"

namespace k8sgpu::net::ws {
namespace {

using namespace test;
using testing::ElementsAre;

// Everything the decoder makes of `bytes`, as text: T/B pieces, P ping, O pong, C close, ! violation.
std::string decoded(MuxRole role, const std::string& bytes, std::size_t step = std::string::npos) {
    FrameDecoder decoder(role);
    std::string seen;
    for (std::size_t at = 0; at < bytes.size(); at += std::min(step, bytes.size())) {
        decoder.feed(std::string_view(bytes).substr(at, step));
        while (true) {
            auto event = decoder.next();
            if (!event) return seen + "!";
            if (!event->has_value()) break;
            if (const auto* piece = std::get_if<Piece>(&**event)) {
                if (piece->first) seen += piece->kind == Opcode::Text ? "T" : "B";
                seen.append(piece->bytes);
                if (piece->last) seen += ".";
            } else if (const auto* ping = std::get_if<PingFrame>(&**event)) {
                seen += "P" + ping->payload;
            } else if (const auto* pong = std::get_if<PongFrame>(&**event)) {
                seen += "O" + pong->payload;
            } else if (const auto* close = std::get_if<CloseFrame>(&**event)) {
                seen += "C" + std::to_string(close->code) + close->reason;
            }
        }
    }
    return seen;
}

TEST(WebSocketFrame, Examples_of_the_rfc_decode) {  // RFC 6455 §5.7
    EXPECT_EQ(decoded(MuxRole::Client, from_hex("810548656c6c6f")), "THello.");
    EXPECT_EQ(decoded(MuxRole::Server, from_hex("818537fa213d7f9f4d5158")), "THello.");
    EXPECT_EQ(decoded(MuxRole::Client, from_hex("010348656c 80026c6f")), "THello.");
    EXPECT_EQ(decoded(MuxRole::Client, from_hex("890548656c6c6f")), "PHello");
    EXPECT_EQ(decoded(MuxRole::Server, from_hex("8a8537fa213d7f9f4d5158")), "OHello");
    EXPECT_EQ(decoded(MuxRole::Client, from_hex("827e0100") + std::string(256, 'x')),
              "B" + std::string(256, 'x') + ".");
    EXPECT_EQ(decoded(MuxRole::Client, from_hex("827f0000000000010000") + std::string(65536, 'x')),
              "B" + std::string(65536, 'x') + ".");
    EXPECT_EQ(decoded(MuxRole::Client, from_hex("8800")), "C1005");
    EXPECT_EQ(decoded(MuxRole::Client, from_hex("880503e8627965")), "C1000bye");
}

TEST(WebSocketFrame, Frames_of_a_server_are_those_of_the_rfc) {
    EXPECT_EQ(hex_encode(encode_frame(Opcode::Text, "Hello", MuxRole::Server)), "810548656c6c6f");
    EXPECT_EQ(hex_encode(encode_close(kCloseNormal, "bye", MuxRole::Server)), "880503e8627965");
    EXPECT_EQ(hex_encode(encode_close(kCloseNoCode, "", MuxRole::Server)), "8800");
    for (const std::size_t size : {0U, 125U, 126U, 65535U, 65536U}) {
        const std::string payload(size, 'x');
        EXPECT_EQ(decoded(MuxRole::Server, encode_frame(Opcode::Binary, payload, MuxRole::Client)),
                  "B" + payload + ".");
    }
    EXPECT_NE(encode_frame(Opcode::Binary, "same", MuxRole::Client),
              encode_frame(Opcode::Binary, "same", MuxRole::Client));
}

TEST(WebSocketFrame, Decodes_the_same_whatever_the_cuts) {
    const auto bytes = encode_frame(Opcode::Binary, "hello", MuxRole::Client) +
                       encode_frame(Opcode::Ping, "you", MuxRole::Client) +
                       encode_frame(Opcode::Text, "", MuxRole::Client) +
                       encode_close(1001, "z", MuxRole::Client);
    for (std::size_t step = 1; step <= bytes.size(); ++step) {
        EXPECT_EQ(decoded(MuxRole::Server, bytes, step), "Bhello.PyouT.C1001z") << step;
    }
}

TEST(WebSocketFrame, Control_frames_may_come_inside_a_message) {
    EXPECT_EQ(decoded(MuxRole::Client, from_hex("020161 8900 000162 800163")), "BaPbc.");
}

TEST(WebSocketFrame, Violations_are_refused) {
    for (const char* hex : {
             "c10548656c6c6f",          // RSV bit
             "8300",                    // unknown type
             "8b00",                    // unknown control type
             "0900",                    // fragmented ping
             "897e0080",                // ping of 128 bytes
             "8000",                    // continuation of nothing
             "010161 810162",           // a message inside a message
             "880103",                  // close with half a code
             "818537fa213d7f9f4d5158",  // masked by a server
             "827f8000000000000000",    // negative length
         }) {
        EXPECT_EQ(decoded(MuxRole::Client, from_hex(hex)).back(), '!') << hex;
    }
    EXPECT_EQ(decoded(MuxRole::Server, from_hex("810548656c6c6f")), "!") << "a client must mask";
}

ChannelOptions as(MuxRole role, ChannelProtocol protocol = ChannelProtocol::BinaryV5) {
    ChannelOptions options;
    options.role = role;
    options.protocol = protocol;
    return options;
}

constexpr RemoteCommandStreams kAll{.in = true, .out = true, .err = true, .resize = true};

// A server session whose peer the test plays by hand.
struct Scripted {
    explicit Scripted(const RemoteCommandStreams& streams = kAll,
                      ChannelOptions options = as(MuxRole::Server), Clock& clock = real_clock())
        : Scripted(remote_command_channels(MuxRole::Server, streams), options, clock) {}
    Scripted(std::vector<Channel> channels, ChannelOptions options, Clock& clock = real_clock()) {
        auto [near, far] = make_memory_pair();
        wire = std::move(far);
        session = std::make_unique<ChannelSession>(std::move(near), "", clock, channels, options);
        for (std::size_t i = 0; i < channels.size(); ++i) {
            auto stream = session->accept(soon());
            EXPECT_OK(stream);
            if (stream) by_number[(*stream)->id()] = *stream;
        }
    }
    void send(const std::string& message, Opcode opcode = Opcode::Binary) {
        ASSERT_OK(wire->write(encode_frame(opcode, message, MuxRole::Client), soon()));
    }
    void expect(const std::string& message, Opcode opcode = Opcode::Binary) {
        const auto frame = encode_frame(opcode, message, MuxRole::Server);
        EXPECT_EQ(hex_encode(read_exactly(*wire, frame.size())), hex_encode(frame));
    }
    MuxStream& channel(std::uint32_t number) { return *by_number.at(number); }

    std::unique_ptr<MemoryStream> wire;
    std::unique_ptr<ChannelSession> session;
    std::map<std::uint32_t, std::shared_ptr<MuxStream>> by_number;
};

TEST(ChannelSession, Protocol_names_are_known) {
    EXPECT_EQ(channel_protocol(""), ChannelProtocol::Binary);
    EXPECT_EQ(channel_protocol("v5.channel.k8s.io"), ChannelProtocol::BinaryV5);
    EXPECT_EQ(channel_protocol("v4.base64.channel.k8s.io"), ChannelProtocol::Base64V4);
    EXPECT_FALSE(channel_protocol("v6.channel.k8s.io"));
    EXPECT_EQ(to_string(ChannelProtocol::Base64), "base64.channel.k8s.io");
}

TEST(ChannelSession, Serves_the_reference_s_messages_byte_for_byte) {
    Scripted peer;
    EXPECT_EQ(peer.channel(0).headers().at("streamtype"), "stdin");
    EXPECT_EQ(peer.channel(3).headers().at("streamtype"), "error");
    peer.expect(std::string("\x01", 1));  // the greeting on stdout
    ASSERT_OK(peer.channel(1).write("hi\n", soon()));
    peer.expect(from_hex("0168690a"));
    peer.send(from_hex("04") + R"({"Width":80,"Height":24})");
    EXPECT_EQ(read_exactly(peer.channel(4), 24), R"({"Width":80,"Height":24})");
    peer.send(std::string("\0echo", 5));
    peer.send(from_hex("ff00"));
    const auto in = read_all(peer.channel(0));
    EXPECT_EQ(in.bytes, "echo");
    EXPECT_FALSE(in.error);
    ASSERT_OK(peer.channel(3).write("{}", soon()));
    peer.expect("\x03{}");
    Thread closer("closer", [&](const std::stop_token&) { peer.session->close(std::chrono::seconds(10)); });
    peer.expect(from_hex("03e8"), Opcode::Close);
    ASSERT_OK(peer.wire->write(encode_close(kCloseNormal, "", MuxRole::Client), soon()));
    closer.join();  // the client's answer ends the linger
}

TEST(ChannelSession, Greets_on_the_lowest_channel_it_writes) {
    Scripted only_err(RemoteCommandStreams{.in = true, .err = true});
    only_err.expect("\x02");
    Scripted only_error(RemoteCommandStreams{});
    only_error.expect("\x03");
    auto options = as(MuxRole::Server);
    options.greet = false;
    Scripted quiet(kAll, options);
    ASSERT_OK(quiet.channel(1).write("x", soon()));
    quiet.expect("\x01x");
}

TEST(ChannelSession, Base64_form_is_text) {
    Scripted peer(kAll, as(MuxRole::Server, ChannelProtocol::Base64V4));
    peer.expect("1", Opcode::Text);
    ASSERT_OK(peer.channel(1).write("hi\n", soon()));
    peer.expect("1aGkK", Opcode::Text);
    const auto frame = encode_frame(Opcode::Text, "0aGkK", MuxRole::Client);
    for (const char c : frame) ASSERT_OK(peer.wire->write({&c, 1}, soon()));
    EXPECT_EQ(read_exactly(peer.channel(0), 3), "hi\n");
    peer.send("0***", Opcode::Text);
    EXPECT_EQ(read_all(peer.channel(0)).error->kind, ErrorKind::Protocol);
}

TEST(ChannelSession, Port_forward_channels_are_ordinary_ones) {
    auto options = as(MuxRole::Server, ChannelProtocol::BinaryV4);
    options.greet = false;
    Scripted peer({{0, {{"streamtype", "data"}, {"port", "80"}}},
                   {1, {{"streamtype", "error"}, {"port", "80"}}, false, true}},
                  options);
    ASSERT_OK(peer.channel(0).write(std::string("\x50\0", 2), soon()));
    peer.expect(from_hex("005000"));
    peer.send(std::string("\0GET", 4));
    EXPECT_EQ(read_exactly(peer.channel(0), 3), "GET");
}

TEST(ChannelSession, Empty_unknown_and_unreadable_messages_are_ignored) {
    Scripted peer(RemoteCommandStreams{.in = true, .out = true});
    peer.send("");
    peer.send(std::string("\0", 1));
    peer.send("\x02stderr was not asked for");
    peer.send("\x01stdout is not the client's");
    peer.send(from_hex("ff02"));  // closing what was not asked for
    peer.send(std::string("\0still here", 11));
    EXPECT_EQ(read_exactly(peer.channel(0), 10), "still here");
    EXPECT_EQ(read_all(peer.channel(1)).bytes, "");
    EXPECT_EQ(kind_of(peer.channel(0).write("x", soon())), ErrorKind::Invalid);
}

TEST(ChannelSession, Malformed_close_messages_end_the_session) {
    for (const char* message : {"ff", "ff0000", "ff09"}) {
        Scripted peer;
        peer.send(from_hex(message));
        EXPECT_EQ(read_all(peer.channel(0)).error->kind, ErrorKind::Protocol) << message;
        peer.expect("\x01");
        peer.expect(from_hex("03ea"), Opcode::Close);
    }
    Scripted v4(kAll, as(MuxRole::Server, ChannelProtocol::BinaryV4));
    v4.send(from_hex("ff00"));  // before v5 just an unknown channel
    v4.send(std::string("\0x", 2));
    EXPECT_EQ(read_exactly(v4.channel(0), 1), "x");
}

TEST(ChannelSession, Fragments_and_long_messages_are_joined) {
    Scripted peer;
    const auto sent = pattern(2U << 20U);
    Thread sender("sender", [&](const std::stop_token&) {
        peer.send(std::string(1, '\0') + sent);
        auto first = encode_frame(Opcode::Binary, {}, MuxRole::Client);
        first[0] = '\x02';  // not the last fragment, and without the channel octet
        auto second = encode_frame(Opcode::Continuation, std::string("\0ab", 3), MuxRole::Client);
        second[0] = '\0';
        EXPECT_OK(peer.wire->write(first + second, soon()));
        peer.send("cd", Opcode::Continuation);
        peer.send(from_hex("ff00"));
    });
    const auto received = read_all(peer.channel(0));
    EXPECT_TRUE(received.bytes == sent + "abcd");
}

TEST(ChannelSession, Ping_is_answered_with_its_payload) {
    Scripted peer;
    peer.expect("\x01");
    peer.send("payload", Opcode::Ping);
    peer.expect("payload", Opcode::Pong);
}

TEST(ChannelSession, Orderly_close_by_the_client_ends_stdin_and_the_session) {
    Scripted peer(kAll, as(MuxRole::Server, ChannelProtocol::BinaryV4));
    peer.send(std::string("\0tail", 5));
    ASSERT_OK(peer.wire->write(encode_close(kCloseNormal, "", MuxRole::Client), soon()));
    const auto received = read_all(peer.channel(0));
    EXPECT_EQ(received.bytes, "tail");
    EXPECT_FALSE(received.error);
    peer.expect("\x01");
    peer.expect(from_hex("03e8"), Opcode::Close);
    EXPECT_EQ(kind_of(peer.session->accept(soon())), ErrorKind::Unavailable);
    EXPECT_EQ(kind_of(peer.channel(1).write("x", soon())), ErrorKind::Unavailable);
}

TEST(ChannelSession, Vanishing_and_failing_clients_are_no_end_of_stdin) {
    Scripted vanishing;
    vanishing.wire->break_connection();
    EXPECT_EQ(read_all(vanishing.channel(0)).error->kind, ErrorKind::Unavailable);
    Scripted silent_end;
    silent_end.wire.reset();
    EXPECT_EQ(read_all(silent_end.channel(0)).error->kind, ErrorKind::Unavailable);
    Scripted failing;
    ASSERT_OK(failing.wire->write(encode_close(1011, "oops", MuxRole::Client), soon()));
    const auto received = read_all(failing.channel(0));
    ASSERT_TRUE(received.error);
    EXPECT_THAT(received.error->message, testing::HasSubstr("1011 oops"));
}

struct Pair {
    explicit Pair(ChannelProtocol protocol, const RemoteCommandStreams& streams = kAll,
                  std::size_t buffer = 256U << 10U) {
        auto [a, b] = make_memory_pair();
        auto server_options = as(MuxRole::Server, protocol);
        auto client_options = as(MuxRole::Client, protocol);
        server_options.stream_buffer = client_options.stream_buffer = buffer;
        server = std::make_unique<ChannelSession>(std::move(a), "", real_clock(),
                                                  remote_command_channels(MuxRole::Server, streams),
                                                  server_options);
        client = std::make_unique<ChannelSession>(std::move(b), "", real_clock(),
                                                  remote_command_channels(MuxRole::Client, streams),
                                                  client_options);
        for (std::size_t i = 0; i < remote_command_channels(MuxRole::Server, streams).size(); ++i) {
            if (auto stream = server->accept(soon()))
                by_type[(*stream)->headers().at("streamtype")] = *stream;
        }
    }
    std::shared_ptr<MuxStream> open(const std::string& type) const {
        auto stream = client->open({{"streamtype", type}}, soon());
        EXPECT_OK(stream);
        return stream ? *stream : nullptr;
    }
    std::unique_ptr<ChannelSession> server;
    std::unique_ptr<ChannelSession> client;
    std::map<std::string, std::shared_ptr<MuxStream>> by_type;
};

TEST(ChannelSession, Client_and_server_run_a_whole_exec_in_every_protocol) {
    for (const auto protocol : {ChannelProtocol::Binary, ChannelProtocol::BinaryV4, ChannelProtocol::BinaryV5,
                                ChannelProtocol::Base64, ChannelProtocol::Base64V4}) {
        Pair pair(protocol);
        const auto in = pattern(500'000, 1);
        const auto out = pattern(500'000, 2);
        Thread client("client",
                      [&](const std::stop_token&) { EXPECT_OK(pair.open("stdin")->write(in, soon())); });
        Thread server("server", [&](const std::stop_token&) {
            EXPECT_OK(pair.by_type.at("stdout")->write(out, soon()));
        });
        EXPECT_TRUE(read_exactly(*pair.by_type.at("stdin"), in.size()) == in);
        EXPECT_TRUE(read_exactly(*pair.open("stdout"), out.size()) == out);
        client.join();
        const auto shut = pair.open("stdin")->shut_write();
        if (protocol == ChannelProtocol::BinaryV5) {
            EXPECT_OK(shut);
            EXPECT_EQ(read_all(*pair.by_type.at("stdin")).bytes, "");
        } else {
            EXPECT_EQ(kind_of(shut), ErrorKind::Unsupported);
        }
        server.join();
        ASSERT_OK(pair.by_type.at("error")->write("{\"status\":\"Success\"}", soon()));
        pair.server->close(std::chrono::seconds(10));
        const auto status = read_all(*pair.open("error"));  // even behind the end
        EXPECT_EQ(status.bytes, "{\"status\":\"Success\"}");
        EXPECT_FALSE(status.error) << to_string(protocol);
    }
}

TEST(ChannelSession, Client_cannot_open_what_the_session_lacks) {
    Pair pair(ChannelProtocol::BinaryV5, {.out = true});
    EXPECT_EQ(kind_of(pair.client->open({{"streamtype", "stdin"}}, soon())), ErrorKind::Unsupported);
    EXPECT_EQ(kind_of(pair.client->accept(soon())), ErrorKind::Unsupported);
    EXPECT_EQ(kind_of(pair.server->accept(within(Duration(5)))), ErrorKind::Timeout);
}

TEST(ChannelSession, Slow_reader_loses_nothing_and_bounds_the_writer) {
    Pair pair(ChannelProtocol::BinaryV5, kAll, 10'000);
    auto in = pair.open("stdin");
    const auto sent = pattern(3U << 20U);
    EXPECT_EQ(kind_of(in->write(sent, within(Duration(100)))), ErrorKind::Timeout);
    Pair again(ChannelProtocol::BinaryV5, kAll, 10'000);
    Thread writer("writer", [&, to = again.open("stdin")](const std::stop_token&) {
        EXPECT_OK(to->write(sent, soon()));
        EXPECT_OK(to->shut_write());
    });
    EXPECT_TRUE(read_all(*again.by_type.at("stdin")).bytes == sent);
}

TEST(ChannelSession, Cancel_wakes_everybody) {
    Pair pair(ChannelProtocol::BinaryV4);
    Thread reader("reader", [from = pair.open("stdout")](const std::stop_token&) {
        std::array<char, 100> buffer;
        EXPECT_EQ(kind_of(from->read(buffer, soon())), ErrorKind::Cancelled);
    });
    Thread writer("writer", [to = pair.open("stdin")](const std::stop_token&) {
        EXPECT_EQ(kind_of(to->write(std::string(8U << 20U, 'x'), soon())), ErrorKind::Cancelled);
    });
    read_exactly(*pair.by_type.at("stdin"), 1000);
    pair.client->cancel();
    EXPECT_TRUE(pair.client->ended().stop_requested());
}

TEST(ChannelSession, Client_pings_and_gives_up_on_silence) {
    FakeClock clock;
    auto [near, far] = make_memory_pair();
    auto options = client_channel_options(ChannelProtocol::BinaryV5);
    options.idle_timeout = Duration::zero();
    ChannelSession session(std::move(near), "", clock, remote_command_channels(MuxRole::Client, kAll),
                           options);
    ASSERT_TRUE(clock.wait_for_sleepers(1));
    clock.advance(std::chrono::seconds(5));
    EXPECT_EQ(decoded(MuxRole::Server, read_exactly(*far, 6)), "P");
    Thread drain("drain", [&wire = *far](const std::stop_token&) { read_all(wire); });
    while (!session.ended().stop_requested()) clock.advance(std::chrono::seconds(1));
    EXPECT_EQ(session.end_reason().kind, ErrorKind::Unavailable);
    drain.request_stop();
    far->cancel();
}

struct Tunnel {
    Tunnel() {
        auto [a, b] = make_memory_pair();
        wire = a.get();
        server = std::make_unique<MessageStream>(std::move(a), "", MuxRole::Server);
        client = std::make_unique<MessageStream>(std::move(b), "", MuxRole::Client);
    }
    MemoryStream* wire = nullptr;
    std::unique_ptr<MessageStream> server;
    std::unique_ptr<MessageStream> client;
};

TEST(MessageStream, Carries_bytes_both_ways_and_ends_in_order) {
    Tunnel tunnel;
    const auto sent = pattern(500'000);
    Thread writer("writer", [&, &to = *tunnel.client](const std::stop_token&) {
        EXPECT_OK(to.write(sent, soon()));
        EXPECT_OK(to.shut_write());
    });
    const auto received = read_all(*tunnel.server);
    EXPECT_TRUE(received.bytes == sent);
    EXPECT_FALSE(received.error);
    writer.join();
    const auto back = read_all(*tunnel.client);  // the server's answer to the close
    EXPECT_FALSE(back.error);
}

TEST(MessageStream, Text_bad_codes_and_silent_ends_are_errors) {
    const auto result_of = [](const std::string& bytes) {
        auto [near, far] = make_memory_pair();
        EXPECT_OK(far->write(bytes, soon()));
        far.reset();
        MessageStream stream(std::move(near), "", MuxRole::Server);
        return read_all(stream).error;
    };
    EXPECT_EQ(result_of(encode_frame(Opcode::Text, "x", MuxRole::Client))->kind, ErrorKind::Protocol);
    EXPECT_EQ(result_of(encode_close(1011, "", MuxRole::Client))->kind, ErrorKind::Unavailable);
    EXPECT_EQ(result_of(encode_frame(Opcode::Binary, "x", MuxRole::Client))->kind, ErrorKind::Unavailable);
    EXPECT_FALSE(result_of(encode_close(kCloseGoingAway, "", MuxRole::Client)));
}

TEST(MessageStream, Ping_is_answered) {
    auto [near, far] = make_memory_pair();
    MessageStream stream(std::move(near), encode_frame(Opcode::Ping, "early", MuxRole::Client),
                         MuxRole::Server);
    ASSERT_OK(far->write(encode_frame(Opcode::Binary, "data", MuxRole::Client), soon()));
    EXPECT_EQ(read_exactly(stream, 4), "data");
    EXPECT_EQ(read_exactly(*far, 7), encode_frame(Opcode::Pong, "early", MuxRole::Server));
}

TEST(MessageStream, Tunnels_a_spdy_session) {
    Tunnel tunnel;
    spdy::SpdySession server(std::move(tunnel.server), "", real_clock(), {});
    spdy::SpdyOptions client_options;
    client_options.role = MuxRole::Client;
    spdy::SpdySession client(std::move(tunnel.client), "", real_clock(), client_options);
    auto from = client.open({{"streamtype", "data"}, {"port", "80"}}, soon());
    ASSERT_OK(from);
    auto to = server.accept(soon());
    ASSERT_OK(to);
    const auto sent = pattern(1U << 20U);
    Thread writer("writer", [&](const std::stop_token&) {
        EXPECT_OK((*from)->write(sent, soon()));
        EXPECT_OK((*from)->shut_write());
    });
    EXPECT_TRUE(read_all(**to).bytes == sent);
    writer.join();
    Thread closer("closer", [&](const std::stop_token&) { client.close(std::chrono::hours(1)); });
    EXPECT_EQ(kind_of(server.accept(soon())), ErrorKind::Unavailable);
    server.close(std::chrono::hours(1));
}

}  // namespace
}  // namespace k8sgpu::net::ws
