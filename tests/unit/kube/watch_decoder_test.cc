#include "kube/watch_decoder.h"

#include <gtest/gtest.h>

namespace k8sgpu::kube {
namespace {

const std::string kEvents =
    "{\"type\":\"ADDED\",\"object\":{\"metadata\":{\"name\":\"a\"}}}\n"
    "\n"
    "{\"type\":\"BOOKMARK\",\"object\":{\"metadata\":{\"resourceVersion\":\"7\"}}}\r\n"
    "{\"type\":\"DELETED\",\"object\":{\"x\":\"caf\xc3\xa9 \\n\"}}\n";

TEST(WatchDecoder, Events_are_the_same_however_the_bytes_arrive) {
    for (std::size_t step = 1; step <= kEvents.size(); ++step) {
        WatchDecoder decoder;
        std::vector<WatchEvent> events;
        for (std::size_t from = 0; from < kEvents.size(); from += step)
            ASSERT_TRUE(decoder.feed(std::string_view(kEvents).substr(from, step), events));
        ASSERT_EQ(events.size(), 3U) << step;
        EXPECT_EQ(events[0].object["metadata"]["name"], "a");
        EXPECT_EQ(events[1].type, WatchEvent::Type::Bookmark);
        EXPECT_EQ(events[2].object["x"], "caf\xc3\xa9 \n");
    }
}

TEST(WatchDecoder, Half_a_line_is_no_event) {
    WatchDecoder decoder;
    std::vector<WatchEvent> events;
    ASSERT_TRUE(decoder.feed(R"({"type":"ADDED","object":{}})", events));
    EXPECT_TRUE(events.empty());
    ASSERT_TRUE(decoder.feed("\n", events));
    EXPECT_EQ(events.size(), 1U);
}

TEST(WatchDecoder, Lines_that_are_no_events_are_protocol_errors) {
    for (const char* line :
         {"garbage\n", "{}\n", "[]\n", "{\"type\":\"ADDED\"}\n", "{\"type\":\"NEW\",\"object\":{}}\n",
          "{\"type\":\"ADDED\",\"object\":[]}\n", "\xff\n", "{\"type\":1,\"object\":{}}\n"}) {
        WatchDecoder decoder;
        std::vector<WatchEvent> events;
        const auto fed = decoder.feed(line, events);
        ASSERT_FALSE(fed) << line;
        EXPECT_EQ(fed.error().kind, ErrorKind::Protocol);
    }
}

TEST(WatchDecoder, A_line_beyond_the_limit_is_refused_before_it_is_held) {
    WatchDecoder decoder(100);
    std::vector<WatchEvent> events;
    EXPECT_TRUE(decoder.feed(std::string(100, ' '), events));
    EXPECT_FALSE(decoder.feed(" ", events));
    EXPECT_FALSE(WatchDecoder(100).feed(std::string(101, ' ') + "\n", events));
}

}  // namespace
}  // namespace k8sgpu::kube
