#include "providers/process/attach_protocol.h"

#include <gtest/gtest.h>

namespace k8sgpu::providers::process {
namespace {

using namespace std::string_literals;

std::string encoded(const AttachMessage& message) {
    std::string out;
    encode_attach(message, out);
    return out;
}

// Shims outlive the program that wrote them: these bytes never change.
TEST(AttachProtocol, Messages_are_these_bytes) {
    EXPECT_EQ(encoded(AttachHello{1, true, true, false, "c"}), "\x01\x03\0\0\0\x01\x03"s + "c");
    EXPECT_EQ(encoded(AttachHello{1, false, false, true, "main"}), "\x01\x06\0\0\0\x01\x04"s + "main");
    EXPECT_EQ(encoded(AttachInput{"hi"}), "\x02\x02\0\0\0hi"s);
    EXPECT_EQ(encoded(AttachInputEnd{}), "\x03\0\0\0\0"s);
    EXPECT_EQ(encoded(AttachResize{80, 0x1234}), "\x04\x04\0\0\0\x50\0\x34\x12"s);
    EXPECT_EQ(encoded(AttachWelcome{1, true}), "\x10\x02\0\0\0\x01\x01"s);
    EXPECT_EQ(encoded(AttachOutput{false, "o"}), "\x11\x01\0\0\0o"s);
    EXPECT_EQ(encoded(AttachOutput{true, "e"}), "\x12\x01\0\0\0e"s);
    EXPECT_EQ(encoded(AttachCredit{0x01020304}), "\x13\x04\0\0\0\x04\x03\x02\x01"s);
    EXPECT_EQ(encoded(AttachEnd{AttachEndReason::TooSlow, "why"}), "\x14\x04\0\0\0\x01why"s);
}

TEST(AttachProtocol, What_was_encoded_decodes_one_by_one_and_waits_for_the_rest) {
    const std::string bytes =
        encoded(AttachHello{7, false, true, true, "main"}) + encoded(AttachInput{"abc"});
    auto first = decode_attach(bytes);
    ASSERT_TRUE(first && *first);
    const auto& hello = std::get<AttachHello>((*first)->message);
    EXPECT_EQ(hello.version, 7);
    EXPECT_FALSE(hello.in);
    EXPECT_TRUE(hello.out && hello.err);
    EXPECT_EQ(hello.container, "main");
    const std::string rest = bytes.substr((*first)->size);
    for (std::size_t size = 0; size < rest.size(); ++size) {
        const auto some = decode_attach(std::string_view(rest).substr(0, size));
        ASSERT_TRUE(some) << size;
        EXPECT_FALSE(*some) << size;
    }
    const auto second = decode_attach(rest);
    ASSERT_TRUE(second && *second);
    EXPECT_EQ(std::get<AttachInput>((*second)->message).bytes, "abc");
    EXPECT_EQ((*second)->size, rest.size());
}

TEST(AttachProtocol, Nonsense_is_refused_as_soon_as_it_is_seen) {
    for (const std::string& bytes : {
             "\0\0\0\0\0"s,                              // no such type
             "\x05\0\0\0\0"s,                            //
             "\xff\0\0\0\0"s,                            //
             "\x02\x01\0\x01\0"s,                        // 65537 bytes announced
             "\x02\xff\xff\xff\xff"s,                    //
             "\x01\x02\0\0\0\x01\x01"s,                  // Hello without a container
             "\x01\0\x01\0\0"s + std::string(256, 'x'),  // a name that is too long
             "\x03\x01\0\0\0x"s,                         // an end with something in it
             "\x04\x03\0\0\0xyz"s,                       // sizes of the wrong size
             "\x13\x05\0\0\0xyzzy"s,                     //
             "\x10\x01\0\0\0\x01"s,                      //
             "\x14\0\0\0\0"s,                            // an end without a reason
         }) {
        const auto decoded = decode_attach(bytes);
        ASSERT_FALSE(decoded) << testing::PrintToString(bytes);
        EXPECT_EQ(decoded.error().kind, ErrorKind::Protocol);
    }
}

TEST(AttachProtocol, Reasons_and_words_of_a_later_version_are_understood_as_far_as_possible) {
    auto decoded = decode_attach("\x14\x04\0\0\0\x63why"s);
    ASSERT_TRUE(decoded && *decoded);
    EXPECT_EQ(std::get<AttachEnd>((*decoded)->message).reason, AttachEndReason::Refused);
    decoded = decode_attach("\x10\x05\0\0\0\x02\x01xyz"s);
    ASSERT_TRUE(decoded && *decoded);
    EXPECT_TRUE(std::get<AttachWelcome>((*decoded)->message).tty);
}

}  // namespace
}  // namespace k8sgpu::providers::process
