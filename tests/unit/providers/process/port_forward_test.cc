#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "common/thread.h"
#include "fixture.h"
#include "net/pollable.h"
#include "net/pump.h"
#include "providers/process/port_owner.h"
#include "test_io.h"

namespace k8sgpu::providers::process {
namespace {

constexpr const char* kTable4 =
    "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
    "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 101 1 0 100 "
    "0 0\n"
    "   1: 00000000:1F91 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 102 1 0 100 "
    "0 0\n"
    "   2: 0A00000A:1F92 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 103 1 0 100 "
    "0 0\n"
    "   3: 0100007F:1F93 0100007F:9C40 01 00000000:00000000 00:00000000 00000000     0        0 104 1 0 100 "
    "0 0\n"
    "nonsense\n"
    "   4: 0100007F:XXXX 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 105 1\n";
constexpr const char* kTable6 =
    "  sl  local_address                         remote_address                        st\n"
    "   0: 00000000000000000000000001000000:1F90 00000000000000000000000000000000:0000 0A 00000000:00000000 "
    "00:00000000 00000000  1000        0 201 1\n"
    "   1: 00000000000000000000000000000000:1F94 00000000000000000000000000000000:0000 0A 00000000:00000000 "
    "00:00000000 00000000  1000        0 202 1\n"
    "   2: 0000000000000000FFFF00000100007F:1F95 00000000000000000000000000000000:0000 0A 00000000:00000000 "
    "00:00000000 00000000  1000        0 203 1\n";

TEST(PortOwner, Reads_what_listens_and_where_it_answers) {
    const auto four = parse_listening(kTable4), six = parse_listening(kTable6);
    ASSERT_EQ(four.size(), 3U);
    EXPECT_EQ(four[0].port, 8080);
    EXPECT_EQ(four[0].inode, 101U);
    EXPECT_TRUE(four[0].answers_v4 && !four[0].answers_v6);
    EXPECT_TRUE(four[1].answers_v4);
    EXPECT_FALSE(four[2].answers_v4) << "10.0.0.10 is not the loopback address";
    ASSERT_EQ(six.size(), 3U);
    EXPECT_TRUE(six[0].answers_v6 && !six[0].answers_v4);
    EXPECT_TRUE(six[1].answers_v6 && six[1].answers_v4);
    EXPECT_TRUE(six[2].answers_v4 && !six[2].answers_v6);
    EXPECT_TRUE(parse_listening("").empty());
}

TEST(PortOwner, A_port_that_anybody_else_could_answer_is_not_the_pods) {
    const std::vector<ListeningSocket> own4 = {{80, 1, true, false}}, own6 = {{80, 2, false, true}};
    const std::vector<ListeningSocket> shared = {{80, 1, true, false}, {80, 9, true, false}};
    const std::vector<ListeningSocket> half = {{80, 9, true, false}, {80, 2, false, true}};
    EXPECT_EQ(choose_loopback(own4, 80, {1}), "127.0.0.1");
    EXPECT_EQ(choose_loopback(own6, 80, {2}), "::1");
    EXPECT_EQ(choose_loopback(own4, 81, {1}), std::nullopt);
    EXPECT_EQ(choose_loopback(own4, 80, {2}), std::nullopt);
    EXPECT_EQ(choose_loopback(shared, 80, {1}), std::nullopt);
    EXPECT_EQ(choose_loopback(half, 80, {2}), "::1");
}

class PortForwardTest : public ProviderTest {
  protected:
    std::uint16_t serve(const DesiredPod& desired) {
        run(desired);
        EXPECT_TRUE(eventually([&] { return std::isdigit(log_of(desired).c_str()[0]) != 0; }));
        return static_cast<std::uint16_t>(std::atoi(log_of(desired).c_str()));
    }
    DesiredPod server(const std::string& address) {
        return pod(
            fmt::format("{} serve {}", std::filesystem::read_symlink("/proc/self/exe").string(), address));
    }
    // One forwarded connection, to the end of both sides.
    Result<void> forward(const DesiredPod& desired, std::uint16_t port, net::ByteStream& client,
                         const CallContext& ctx) {
        const auto ports = provider().port_forwarder()->ports_of(desired.id);
        const auto connection = ports->connect(port, ctx);
        if (!connection) return fail(connection.error());
        EXPECT_NE(net::as_pollable(**connection), nullptr);
        return net::pump_both_ways(client, **connection, ctx);
    }
    std::string ask(const DesiredPod& desired, std::uint16_t port, const std::string& text) {
        TestStream stream;
        stream.send(text).end();
        const auto done = forward(desired, port, stream, context());
        if (!done) return "error: " + done.error().message;
        return stream.written();
    }
};

TEST_F(PortForwardTest, Bytes_and_the_ends_of_both_sides_pass) {
    for (const char* address : {"127.0.0.1", "0.0.0.0", "::1", "::"}) {
        const DesiredPod desired = server(address);
        const auto port = serve(desired);
        const std::string text(300'000, 'x');
        EXPECT_TRUE(ask(desired, port, text) == "heard " + text) << address << ask(desired, port, "x");
    }
}

TEST_F(PortForwardTest, Ports_of_other_pods_and_of_the_host_are_refused) {
    const DesiredPod first = server("127.0.0.1"), second = pod("sleep 60");
    const auto port = serve(first);
    run(second);
    ASSERT_TRUE(wait_running(second));
    const auto answer = ask(second, port, "x");
    EXPECT_EQ(
        answer,
        fmt::format(
            "error: failed to connect to localhost:{0} inside pod p, IPv4: dial tcp4 127.0.0.1:{0}: connect: "
            "connection refused IPv6 dial tcp6 [::1]:{0}: connect: connection refused",
            port));
    EXPECT_EQ(ask(first, 1, "x").substr(0, 13), "error: failed");
}

TEST_F(PortForwardTest, A_server_that_a_command_of_exec_started_belongs_to_the_pod) {
    const DesiredPod desired = pod("sleep 60");
    run(desired);
    ASSERT_TRUE(wait_running(desired));
    TestIo io;
    ExecRequest request{
        desired.id, "c", {std::filesystem::read_symlink("/proc/self/exe"), "serve", "127.0.0.1"}};
    Thread session("session", [&](std::stop_token stop) {
        (void)provider().exec(request, io, context().with_stop(stop));
    });
    ASSERT_TRUE(eventually([&] { return !io.out.written().empty(); }));
    EXPECT_EQ(ask(desired, static_cast<std::uint16_t>(std::stoi(io.out.written())), "x"), "heard x");
    session.stop();
}

TEST_F(PortForwardTest, A_pod_that_has_ended_has_no_ports) {
    const DesiredPod desired = pod("true");
    run(desired);
    ASSERT_TRUE(wait_ended(desired));
    const auto answer = ask(desired, 80, "x");
    EXPECT_EQ(answer, "error: pod \"p\" is not running");
}

TEST_F(PortForwardTest, The_end_of_the_pod_ends_the_connection) {
    const DesiredPod desired = server("127.0.0.1");
    const auto port = serve(desired);
    TestStream stream;
    std::atomic<bool> done = false;
    Thread session("session", [&](std::stop_token stop) {
        (void)forward(desired, port, stream, context().with_stop(stop));
        done = true;
    });
    stream.send("never answered");
    ASSERT_TRUE(eventually([&] { return stream.taken(); }));
    ASSERT_TRUE(provider().remove(desired.id, std::chrono::seconds(0), context()));
    ASSERT_TRUE(wait_ended(desired));
    stream.end();
    EXPECT_TRUE(eventually([&] { return done.load(); }));
}

}  // namespace
}  // namespace k8sgpu::providers::process
