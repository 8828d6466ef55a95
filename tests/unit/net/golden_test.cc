// Our decoders on what kubectl's requests look like at a node, and our encoders against what the kubelet
// answered.
#include "tests/golden/recorded.h"

#include <fmt/format.h>

#include "net/memory_stream.h"
#include "net/spdy/frame.h"
#include "net/spdy/header_codec.h"
#include "net/spdy/session.h"
#include "net/ws/channel_session.h"
#include "net/ws/frame.h"
#include "net/ws/handshake.h"
#include "tests/unit/net/support.h"

namespace k8sgpu::net {
namespace {

using namespace test;
using k8sgpu::test::recorded_answer;
using k8sgpu::test::recorded_request;
using k8sgpu::test::RecordedRequest;

// What a person would say of the frames; every block of headers passes through one decoder, in order.
std::string transcript(std::string_view bytes) {
    spdy::FrameDecoder frames;
    spdy::HeaderDecoder blocks;
    frames.feed(bytes);
    std::string out;
    const auto headers = [&](const std::string& block) {
        const auto pairs = blocks.decode(block);
        if (!pairs) return " ! " + pairs.error().message;
        std::string text;
        for (const auto& [name, value] : *pairs) text += " " + name + "=" + value;
        return text;
    };
    while (true) {
        auto event = frames.next();
        if (!event) return out + "! " + event.error().message;
        if (!event->has_value()) return out;
        if (const auto* syn = std::get_if<spdy::SynStream>(&**event)) {
            out += fmt::format("{} opened{}\n", syn->stream_id, headers(syn->header_block));
        } else if (const auto* reply = std::get_if<spdy::SynReply>(&**event)) {
            out += fmt::format("{} accepted{}\n", reply->stream_id, headers(reply->header_block));
        } else if (const auto* data = std::get_if<spdy::DataPiece>(&**event)) {
            if (!data->bytes.empty()) out += fmt::format("{} says {}\n", data->stream_id, data->bytes);
            if (data->fin) out += fmt::format("{} ends\n", data->stream_id);
        } else if (const auto* rst = std::get_if<spdy::RstStream>(&**event)) {
            out += fmt::format("{} reset {}\n", rst->stream_id, rst->status);
        } else if (const auto* away = std::get_if<spdy::GoAway>(&**event)) {
            out += fmt::format("goes away after {}\n", away->last_stream_id);
        } else {
            out += fmt::format("frame of kind {}\n", (*event)->index());
        }
    }
}

// Everything that is said on one stream.
std::string said(std::string_view bytes, std::uint32_t stream) {
    spdy::FrameDecoder frames;
    frames.feed(bytes);
    std::string out;
    while (auto event = *frames.next()) {
        const auto* data = std::get_if<spdy::DataPiece>(&*event);
        if (data != nullptr && data->stream_id == stream) out += data->bytes;
    }
    return out;
}

const char* const kExecStreams =
    "1 opened streamtype=error\n3 opened streamtype=stdout\n5 opened streamtype=stderr\n";
const char* const kStdinStreams =
    "1 opened streamtype=error\n3 opened streamtype=stdin\n5 opened streamtype=stdout\n7 opened "
    "streamtype=stderr\n";

struct Session {
    const char* form;
    std::string client;  // its frames; kubectl over WebSocket looks the same at the node
};
std::vector<Session> sessions() {
    std::vector<Session> all;
    for (const char* form : {"exec-ws", "exec-spdy", "cp-ws"}) all.push_back({form, kExecStreams});
    for (const auto& [form, text] : {std::pair{"exec-stdin-ws", "hello"},
                                     {"exec-stdin-spdy", "hello"},
                                     {"attach-ws", "to attach"},
                                     {"attach-spdy", "to attach"},
                                     {"run-ws", "from run"}})
        all.push_back({form, fmt::format("{}3 says {}\n\n3 ends\n", kStdinStreams, text)});
    return all;
}

class Golden : public testing::TestWithParam<const char*> {
  protected:
    static std::string name(std::string_view form) { return fmt::format("{}/{}", GetParam(), form); }
};
INSTANTIATE_TEST_SUITE_P(Kubernetes, Golden, testing::Values("1.30", "1.36"), [](const auto& instance) {
    std::string name = instance.param;
    std::replace(name.begin(), name.end(), '.', '_');
    return "v" + name;
});

TEST_P(Golden, Upgrade_requests_are_understood) {
    for (const Session& session : sessions()) {
        const auto request = recorded_request(name(session.form));
        EXPECT_EQ(request.head.method, "POST") << session.form;
        EXPECT_TRUE(request.head.is_upgrade_to("SPDY/3.1")) << session.form;
        const auto offered = request.head.headers.list("x-stream-protocol-version");
        EXPECT_THAT(offered, testing::Contains("v4.channel.k8s.io")) << session.form;
    }
    for (const char* form : {"channel-v4", "channel-base64", "channel-port-forward"}) {
        const auto request = recorded_request(name(form));
        EXPECT_TRUE(ws::check_upgrade_request(request.head)) << form;
    }
}

TEST_P(Golden, Client_frames_say_what_kubectl_was_told_to_do) {
    for (const Session& session : sessions()) {
        // An older API server resets its streams at the end.
        EXPECT_THAT(transcript(recorded_request(name(session.form)).rest),
                    testing::StartsWith(session.client))
            << session.form;
    }
    for (const char* form : {"exec-tty-ws", "exec-tty-spdy"}) {
        const std::string frames = recorded_request(name(form)).rest;
        EXPECT_THAT(transcript(frames), testing::HasSubstr("7 opened streamtype=resize\n")) << form;
        EXPECT_EQ(said(frames, 7), "{\"Width\":80,\"Height\":24}\n") << form;
    }
}

TEST_P(Golden, Kubelet_frames_say_how_the_command_ended) {
    for (const char* form : {"exec-ws", "exec-spdy"}) {
        const std::string frames = recorded_answer(name(form)).rest;
        EXPECT_EQ(said(frames, 3), "out\n") << form;
        EXPECT_EQ(said(frames, 5), "err\n") << form;
        EXPECT_THAT(said(frames, 1), testing::HasSubstr(R"("causes":[{"reason":"ExitCode","message":"3"}])"))
            << form;
    }
    for (const char* form : {"exec-stdin-ws", "exec-stdin-spdy", "attach-ws", "attach-spdy", "run-ws"})
        EXPECT_EQ(said(recorded_answer(name(form)).rest, 1), R"({"metadata":{},"status":"Success"})") << form;
}

TEST_P(Golden, Answer_to_an_upgrade_is_the_kubelets_octet_for_octet) {
    for (const Session& session : sessions()) {
        EXPECT_EQ(write_response_head(101, {{"Connection", "Upgrade"},
                                            {"Upgrade", "SPDY/3.1"},
                                            {"X-Stream-Protocol-Version", "v4.channel.k8s.io"}}),
                  recorded_answer(name(session.form)).head)
            << session.form;
    }
    for (const auto& [form, protocol] :
         {std::pair{"channel-v4", "v4.channel.k8s.io"}, {"channel-base64", "base64.channel.k8s.io"}}) {
        const auto ours =
            parse_response_head(ws::write_upgrade_response(recorded_request(name(form)).head, protocol));
        const auto theirs = parse_response_head(recorded_answer(name(form)).head);
        ASSERT_TRUE(ours && theirs);
        EXPECT_THAT(ours->headers.lines(), testing::UnorderedElementsAreArray(theirs->headers.lines()))
            << form;
    }
}

TEST_P(Golden, Our_acceptance_of_streams_reads_as_the_kubelets) {
    // Go's compressor and zlib choose other codes for the same text.
    spdy::HeaderEncoder encoder;
    std::string ours;
    for (const std::uint32_t id : {1U, 3U, 5U}) ours += spdy::encode_syn_reply(id, *encoder.encode({}));
    EXPECT_EQ(transcript(ours), "1 accepted\n3 accepted\n5 accepted\n");
    EXPECT_THAT(transcript(recorded_answer(name("exec-ws")).rest), testing::StartsWith(transcript(ours)));
}

TEST_P(Golden, Header_blocks_of_the_client_are_ours_in_content) {
    spdy::HeaderEncoder encoder;
    std::string ours;
    std::uint32_t id = 1;
    for (const char* type : {"error", "stdout", "stderr"}) {
        ours += spdy::encode_syn_stream(id, *encoder.encode({{"streamtype", type}}));
        id += 2;
    }
    EXPECT_EQ(transcript(ours), transcript(recorded_request(name("exec-ws")).rest));
}

TEST_P(Golden, A_session_serves_a_recorded_client) {
    for (const char* form : {"exec-stdin-ws", "exec-stdin-spdy"}) {
        auto pair = make_memory_pair(64U << 10U);
        const auto request = recorded_request(name(form));
        spdy::SpdySession session(std::move(pair.first), request.rest, real_clock(), {});
        std::vector<std::string> types;
        std::string given;
        for (int i = 0; i < 4; ++i) {
            const auto stream = session.accept(soon());
            ASSERT_TRUE(stream) << form;
            types.push_back((*stream)->headers().at("streamtype"));
            if (types.back() == "stdin") given = read_exactly(**stream, 6);
        }
        EXPECT_THAT(types, testing::ElementsAre("error", "stdin", "stdout", "stderr")) << form;
        EXPECT_EQ(given, "hello\n") << form;
    }
}

TEST_P(Golden, A_forwarded_connection_is_a_pair_of_streams) {
    for (const std::string form : {"port-forward-ws", "port-forward-spdy"}) {
        // kubectl asks older API servers in two ways, one after the other; the connection that was used has
        // frames.
        auto request = recorded_request(name(form));
        const std::string used = request.rest.empty() ? form + "-2" : form;
        request = recorded_request(name(used));
        EXPECT_THAT(request.head.headers.list("x-stream-protocol-version"),
                    testing::Contains("portforward.k8s.io"));
        const std::string text = transcript(request.rest);
        EXPECT_THAT(text, testing::HasSubstr("1 opened port=8080 requestid=0 streamtype=error\n")) << used;
        EXPECT_THAT(text, testing::HasSubstr("3 opened port=8080 requestid=0 streamtype=data\n")) << used;
        EXPECT_THAT(said(request.rest, 3), testing::StartsWith("GET / HTTP/1.1\r\n")) << used;
        EXPECT_EQ(said(recorded_answer(name(used)).rest, 3), "HTTP/1.0 200 OK\r\n\r\nhello") << used;
    }
}

// The payloads of whole messages, "|" between them.
std::string messages(MuxRole role, std::string_view bytes) {
    ws::FrameDecoder decoder(role);
    decoder.feed(bytes);
    std::string out;
    while (true) {
        auto event = decoder.next();
        if (!event) return out + "! " + event.error().message;
        if (!event->has_value()) return out;
        if (const auto* piece = std::get_if<ws::Piece>(&**event)) {
            out += piece->bytes;
            if (piece->last) out += "|";
        }
    }
}

TEST_P(Golden, Messages_of_the_channel_protocols) {
    using namespace std::string_literals;
    EXPECT_EQ(messages(MuxRole::Server, recorded_request(name("channel-v4")).rest), "\0raw\n|"s);
    EXPECT_EQ(messages(MuxRole::Server, recorded_request(name("channel-base64")).rest), "0cmF3Cg==|");
    EXPECT_EQ(messages(MuxRole::Server, recorded_request(name("channel-port-forward")).rest),
              "\0GET / HTTP/1.0\r\n\r\n|"s);
    // The kubelet's greeting first, on the lowest channel that it may write; it is ours as well.
    EXPECT_EQ(recorded_answer(name("channel-v4")).rest,
              ws::encode_frame(ws::Opcode::Binary, "\1", MuxRole::Server) +
                  ws::encode_frame(ws::Opcode::Binary, "\1raw\n", MuxRole::Server));
    EXPECT_EQ(recorded_answer(name("channel-base64")).rest,
              ws::encode_frame(ws::Opcode::Text, "1", MuxRole::Server) +
                  ws::encode_frame(ws::Opcode::Text, "1cmF3Cg==", MuxRole::Server));
    // Port-forward begins with the port on both channels, little endian.
    EXPECT_THAT(messages(MuxRole::Client, recorded_answer(name("channel-port-forward")).rest),
                testing::StartsWith("\0\x90\x1f|\1\x90\x1f|\0HTTP/1.0 200 OK\r\n\r\nhello|"s));
}

TEST_P(Golden, A_channel_session_answers_as_the_kubelet_did) {
    for (const auto& [form, protocol] : {std::pair{"channel-v4", ws::ChannelProtocol::BinaryV4},
                                         {"channel-base64", ws::ChannelProtocol::Base64}}) {
        auto pair = make_memory_pair(64U << 10U);
        ws::ChannelOptions options;
        options.protocol = protocol;
        ws::ChannelSession session(
            std::move(pair.first), recorded_request(name(form)).rest, real_clock(),
            ws::remote_command_channels(MuxRole::Server, {.in = true, .out = true, .err = true}), options);
        const auto in = session.accept(soon());
        const auto out = session.accept(soon());
        ASSERT_TRUE(in && out) << form;
        EXPECT_EQ(read_exactly(**in, 4), "raw\n") << form;
        ASSERT_TRUE((*out)->write("raw\n", soon())) << form;
        const std::string theirs = recorded_answer(name(form)).rest;
        EXPECT_EQ(read_exactly(*pair.second, theirs.size()), theirs) << form;
    }
}

}  // namespace
}  // namespace k8sgpu::net
