#include "common/encoding.h"
#include "net/spdy/frame.h"
#include "net/spdy/header_codec.h"
#include "tests/unit/net/support.h"

namespace k8sgpu::net::spdy {
namespace {

using namespace test;

// Recorded from the reference implementation's wire format; see the contract's byte vectors.
const std::string kFirstBlock = from_hex("78f9e3c6a7c202a62346703a2b294a4dcc851625aca9a08006000000ffff");
const std::string kSecondBlock = from_hex("c22e555c02cc2e00000000ffff");
const std::string kEmptyFirst = from_hex("78f9e3c6a7c202a6230600000000ffff");
const std::string kEmptyNext = from_hex("020100000000ffff");

TEST(SpdyHeaderCodec, Dictionary_is_that_of_spdy_3) {
    EXPECT_EQ(header_dictionary().size(), 1423U);
    EXPECT_EQ(hex_encode(sha256(header_dictionary())),
              "51d27341373f923f3cd88e1eb7162aeaa3723d7585ff2399201dc06498407f02");
}

TEST(SpdyHeaderCodec, Blocks_are_those_of_the_reference) {
    HeaderEncoder encoder;
    EXPECT_EQ(hex_encode(*encoder.encode({{"streamtype", "error"}})), hex_encode(kFirstBlock));
    EXPECT_EQ(hex_encode(*encoder.encode({{"streamtype", "stdin"}})), hex_encode(kSecondBlock));
    HeaderEncoder replies;
    EXPECT_EQ(hex_encode(*replies.encode({})), hex_encode(kEmptyFirst));
    EXPECT_EQ(hex_encode(*replies.encode({})), hex_encode(kEmptyNext));
}

TEST(SpdyHeaderCodec, Decodes_blocks_of_one_context_in_order) {
    HeaderDecoder decoder;
    EXPECT_EQ(*decoder.decode(kFirstBlock), (StreamHeaders{{"streamtype", "error"}}));
    EXPECT_EQ(*decoder.decode(kSecondBlock), (StreamHeaders{{"streamtype", "stdin"}}));
    HeaderDecoder replies;
    EXPECT_TRUE(replies.decode(kEmptyFirst)->empty());
    EXPECT_TRUE(replies.decode(kEmptyNext)->empty());
    EXPECT_EQ(kind_of(HeaderDecoder().decode(kSecondBlock)), ErrorKind::Protocol);
}

TEST(SpdyHeaderCodec, Large_blocks_survive_and_huge_ones_are_refused) {
    HeaderEncoder encoder;
    HeaderDecoder decoder;
    const StreamHeaders large{{"a", pattern(100'000)}, {"b", ""}};
    const auto without_nul = [](StreamHeaders headers) {
        for (auto& [name, value] : headers) std::erase(value, '\0');
        return headers;
    };
    EXPECT_EQ(*decoder.decode(*encoder.encode(without_nul(large))), without_nul(large));
    const auto bomb = *encoder.encode({{"a", std::string(300'000, 'x')}});
    EXPECT_LT(bomb.size(), 1000U);
    EXPECT_EQ(kind_of(decoder.decode(bomb)), ErrorKind::Protocol);
}

TEST(SpdyHeaderCodec, Of_several_values_the_first_counts) {
    HeaderEncoder encoder;
    HeaderDecoder decoder;
    EXPECT_EQ(decoder.decode(*encoder.encode({{"a", std::string("one\0two", 7)}}))->at("a"), "one");
}

TEST(SpdyHeaderCodec, Bad_names_are_protocol_errors) {
    for (const char* name : {"", "StreamType"}) {
        HeaderEncoder encoder;
        HeaderDecoder decoder;
        EXPECT_EQ(kind_of(decoder.decode(*encoder.encode({{name, "x"}}))), ErrorKind::Protocol) << name;
    }
}

template <typename T>
T only(const std::string& bytes) {
    FrameDecoder decoder;
    decoder.feed(bytes);
    auto event = decoder.next();
    EXPECT_OK(event);
    EXPECT_TRUE(event && event->has_value() && std::holds_alternative<T>(**event));
    auto rest = decoder.next();
    EXPECT_TRUE(rest && !rest->has_value());
    return std::get<T>(**event);
}

TEST(SpdyFrame, Frames_are_those_of_the_reference) {
    const auto syn = only<SynStream>(from_hex("80030001 00000028 00000001 00000000 0000") + kFirstBlock);
    EXPECT_EQ(syn.stream_id, 1U);
    EXPECT_EQ(syn.header_block, kFirstBlock);
    EXPECT_FALSE(syn.fin);
    EXPECT_EQ(hex_encode(encode_syn_stream(1, kFirstBlock)),
              hex_encode(from_hex("80030001 00000028 00000001 00000000 0000") + kFirstBlock));
    EXPECT_EQ(hex_encode(encode_syn_stream(3, kSecondBlock)),
              hex_encode(from_hex("80030001 00000017 00000003 00000000 0000") + kSecondBlock));
    EXPECT_EQ(hex_encode(encode_syn_reply(1, kEmptyFirst)),
              hex_encode(from_hex("80030002 00000014 00000001") + kEmptyFirst));
    EXPECT_EQ(hex_encode(encode_data(5, "hi\n", false)), "000000050000000368690a");
    EXPECT_EQ(hex_encode(encode_data(5, "", true)), "0000000501000000");
    EXPECT_EQ(hex_encode(encode_ping(1)), "800300060000000400000001");
    EXPECT_EQ(hex_encode(encode_rst_stream(5, kRstCancel)), "80030003000000080000000500000005");
    EXPECT_EQ(hex_encode(encode_goaway(7, 0)), "80030007000000080000000700000000");

    EXPECT_EQ(only<SynReply>(encode_syn_reply(9, "x", true)).fin, true);
    EXPECT_EQ(only<Ping>(encode_ping(7)).id, 7U);
    EXPECT_EQ(only<RstStream>(encode_rst_stream(5, 3)).status, 3U);
    EXPECT_EQ(only<GoAway>(encode_goaway(7, 0)).last_stream_id, 7U);
    EXPECT_EQ(only<Ignored>(from_hex("80030004 00000004 00000000")).type, 4);  // SETTINGS
    EXPECT_EQ(only<Ignored>(from_hex("80030009 00000008 00000001 00001000")).type, 9);
    EXPECT_TRUE(only<SynStream>(from_hex("80030001 0300000a 00000001 00000000 0000")).unidirectional);
}

TEST(SpdyFrame, Decodes_the_same_whatever_the_cuts) {
    const auto bytes =
        encode_ping(1) + encode_data(3, "hello", true) + encode_data(5, "", false) + encode_goaway(3, 0);
    for (std::size_t step = 1; step <= bytes.size(); ++step) {
        FrameDecoder decoder;
        std::string seen;
        for (std::size_t at = 0; at < bytes.size(); at += step) {
            decoder.feed(std::string_view(bytes).substr(at, step));
            while (true) {
                auto event = decoder.next();
                ASSERT_OK(event);
                if (!event->has_value()) break;
                if (const auto* data = std::get_if<DataPiece>(&**event)) {
                    seen +=
                        std::to_string(data->stream_id) + std::string(data->bytes) + (data->fin ? "." : "");
                }
                if (std::holds_alternative<Ping>(**event)) seen += "P";
                if (std::holds_alternative<GoAway>(**event)) seen += "G";
            }
        }
        std::erase(seen, '3');
        EXPECT_EQ(seen, "Phello.5G") << step;
    }
}

TEST(SpdyFrame, Unknown_and_oversized_control_frames_are_protocol_errors) {
    for (const char* hex : {
             "80020006 00000004 00000001",  // version 2
             "80030005 00000000",           // NOOP, which the reference does not know
             "8003000a 00000000",           // CREDENTIAL
             "80030001 00ffffff",           // SYN_STREAM of 16 MiB
             "80030001 00000009 00000001 00000000 00",
             "80030006 00000003 000000",
         }) {
        FrameDecoder decoder;
        decoder.feed(from_hex(hex));
        EXPECT_EQ(kind_of(decoder.next()), ErrorKind::Protocol) << hex;
    }
}

}  // namespace
}  // namespace k8sgpu::net::spdy
