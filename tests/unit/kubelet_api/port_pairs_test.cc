#include "kubelet_api/port_pairs.h"

#include <gtest/gtest.h>

namespace k8sgpu::kubelet_api {
namespace {

using namespace std::chrono_literals;

class IdleStream final : public net::MuxStream {
  public:
    IdleStream(std::uint32_t id, net::StreamHeaders headers) : id_(id), headers_(std::move(headers)) {}
    std::uint32_t id() const override { return id_; }
    const net::StreamHeaders& headers() const override { return headers_; }
    void reset() override {}
    Result<std::size_t> read(std::span<char>, const CallContext&) override { return std::size_t{0}; }
    Result<void> write(std::string_view, const CallContext&) override { return {}; }
    Result<void> shut_write() override { return {}; }
    void cancel() override {}
    Result<std::optional<std::size_t>> try_read(std::span<char>) override {
        return std::optional<std::size_t>(0);
    }
    Result<std::size_t> try_write(std::string_view bytes) override { return bytes.size(); }

  private:
    std::uint32_t id_;
    net::StreamHeaders headers_;
};

const SteadyTime kNow(1h);

std::shared_ptr<net::MuxStream> stream(std::uint32_t id, const char* type, const char* port,
                                       const char* request = "") {
    net::StreamHeaders headers = {{"streamtype", type}, {"port", port}};
    if (*request != '\0') headers["requestid"] = request;
    return std::make_shared<IdleStream>(id, headers);
}

struct PortPairsTest : testing::Test {
    PortPairs pairs{30s};
};

TEST_F(PortPairsTest, Joins_by_request_in_any_order) {
    EXPECT_FALSE(pairs.add(stream(1, "error", "80", "a"), kNow).complete);
    EXPECT_FALSE(pairs.add(stream(3, "data", "81", "b"), kNow).complete);
    const auto a = pairs.add(stream(5, "data", "80", "a"), kNow);
    ASSERT_TRUE(a.complete);
    EXPECT_EQ(a.complete->port, 80);
    EXPECT_EQ(a.complete->error->id(), 1U);
    EXPECT_EQ(a.complete->data->id(), 5U);
    EXPECT_EQ(pairs.add(stream(7, "error", "81", "b"), kNow).complete->port, 81);
}

TEST_F(PortPairsTest, Without_request_ids_neighbours_belong_together) {
    EXPECT_FALSE(pairs.add(stream(5, "error", "80"), kNow).complete);
    EXPECT_TRUE(pairs.add(stream(7, "data", "80"), kNow).complete);
}

TEST_F(PortPairsTest, Refuses_what_is_no_half_of_anything) {
    EXPECT_FALSE(pairs.add(stream(1, "stdin", "80", "a"), kNow).problem.empty());
    for (const char* port : {"", "0", "65536", "-1", "8o", "99999999999"})
        EXPECT_FALSE(pairs.add(stream(1, "data", port, "a"), kNow).problem.empty()) << port;
    EXPECT_EQ(pairs.next_deadline(), SteadyTime::max());
}

TEST_F(PortPairsTest, A_second_stream_of_a_kind_does_not_replace_the_first) {
    EXPECT_FALSE(pairs.add(stream(1, "error", "80", "a"), kNow).complete);
    EXPECT_EQ(pairs.add(stream(3, "error", "80", "a"), kNow).problem,
              "error processing stream for request a: error stream already assigned");
    EXPECT_EQ(pairs.add(stream(5, "data", "80", "a"), kNow).complete->error->id(), 1U);
}

TEST_F(PortPairsTest, Gives_back_halves_that_waited_too_long) {
    EXPECT_FALSE(pairs.add(stream(1, "error", "80", "a"), kNow).complete);
    EXPECT_FALSE(pairs.add(stream(3, "data", "80", "b"), kNow + 10s).complete);
    EXPECT_EQ(pairs.next_deadline(), kNow + 30s);
    EXPECT_TRUE(pairs.take_expired(kNow + 29s).empty());
    const auto late = pairs.take_expired(kNow + 30s);
    ASSERT_EQ(late.size(), 1U);
    EXPECT_EQ(late[0].request_id, "a");
    EXPECT_EQ(pairs.take_all().size(), 1U);
}

}  // namespace
}  // namespace k8sgpu::kubelet_api
