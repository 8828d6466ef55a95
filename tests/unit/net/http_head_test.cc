#include "net/http_head.h"

#include "net/memory_stream.h"
#include "net/ws/handshake.h"
#include "tests/unit/net/support.h"

namespace k8sgpu::net {
namespace {

using namespace test;
using testing::ElementsAre;
using namespace std::string_literals;

constexpr std::string_view kExec =
    "POST /exec/ns/pod/c?command=sh&input=1 HTTP/1.1\r\n"
    "Host: 127.0.0.1:10250\r\n"
    "Connection: keep-alive, Upgrade\r\n"
    "Upgrade: SPDY/3.1\r\n"
    "X-Stream-Protocol-Version: v5.channel.k8s.io, v4.channel.k8s.io\r\n"
    "X-Stream-Protocol-Version:channel.k8s.io  \r\n"
    "\r\n";

TEST(HttpHead, Reads_an_upgrade_request) {
    const auto head = parse_request_head(kExec);
    ASSERT_OK(head);
    EXPECT_EQ(head->method, "POST");
    EXPECT_EQ(head->path(), "/exec/ns/pod/c");
    EXPECT_EQ(head->query(), "command=sh&input=1");
    EXPECT_TRUE(head->is_upgrade_to("spdy/3.1"));
    EXPECT_FALSE(head->is_upgrade_to("websocket"));
    EXPECT_EQ(head->headers.get("host"), "127.0.0.1:10250");
    EXPECT_EQ(head->headers.get("absent"), "");
    EXPECT_THAT(head->headers.list("x-stream-protocol-version"),
                ElementsAre("v5.channel.k8s.io", "v4.channel.k8s.io", "channel.k8s.io"));
    EXPECT_EQ(head->headers.all("x-stream-protocol-version").size(), 2U);
}

TEST(HttpHead, Reads_a_response) {
    const auto head = parse_response_head("HTTP/1.1 101 Switching Protocols\r\nUpgrade: SPDY/3.1\r\n\r\n");
    ASSERT_OK(head);
    EXPECT_EQ(head->status, 101);
    EXPECT_EQ(head->reason, "Switching Protocols");
    EXPECT_EQ(head->headers.get("upgrade"), "SPDY/3.1");
    EXPECT_OK(parse_response_head("HTTP/1.0 404\r\n\r\n"));
    for (const char* bad :
         {"HTTP/1.1\r\n\r\n", "HTTP/1.1 20\r\n\r\n", "HTTP/1.1 2x0 OK\r\n\r\n", "HTTP/1.1 2000\r\n\r\n",
          "HTTP/1.1 099 x\r\n\r\n", "\r\n\r\n", "ICY 200 OK\r\n\r\n"}) {
        EXPECT_FALSE(parse_response_head(bad).has_value()) << bad;
    }
}

TEST(HttpHead, Refuses_what_two_parsers_could_read_differently) {
    struct Case {
        std::string head;
        int status;
    };
    const Case cases[] = {
        {"GET /\r\n\r\n", 400},
        {"GET / HTTP/2.0\r\n\r\n", 505},
        {"GET / FTP/1.1\r\n\r\n", 400},
        {"GET /a b HTTP/1.1\r\n\r\n", 400},
        {"GET  HTTP/1.1\r\n\r\n", 400},
        {"G(T / HTTP/1.1\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nName : x\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\n folded\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nA: 1\r\n continued\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\n: x\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nno colon\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nA: x\ny\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nA: x\0y\r\n\r\n"s, 400},
        {"GET / HTTP/1.1\nA: x\n\n", 400},
        {"GET / HTTP/1.1\r\nA: x\r\n", 400},
    };
    for (const auto& c : cases) {
        const auto head = parse_request_head(c.head);
        ASSERT_EQ(kind_of(head), ErrorKind::Invalid) << c.head;
        EXPECT_EQ(head.error().http_status, c.status) << c.head;
    }
}

TEST(HttpHead, Size_and_line_count_are_bounded) {
    const auto big = "GET /" + std::string(100, 'a') + " HTTP/1.1\r\n\r\n";
    EXPECT_EQ(parse_request_head(big, {.max_bytes = 50}).error().http_status, 431);
    std::string many = "GET / HTTP/1.1\r\n";
    for (int i = 0; i < 11; ++i) many += "A: b\r\n";
    EXPECT_EQ(parse_request_head(many + "\r\n", {.max_headers = 10}).error().http_status, 431);
    EXPECT_OK(parse_request_head(many + "\r\n", {.max_headers = 11}));
}

TEST(HttpHead, Is_read_a_byte_at_a_time_and_leaves_what_follows) {
    auto [client, server] = make_memory_pair(1);
    Thread sender("sender", [&to = *client](const std::stop_token&) {
        EXPECT_OK(to.write("\r\n", soon()));
        EXPECT_OK(to.write(kExec, soon()));
    });
    auto read = read_request_head(*server, soon());
    ASSERT_OK(read);
    EXPECT_EQ(read->raw, kExec);
    EXPECT_EQ(read->early, "");
    auto again = read_request_head(*server, soon(), std::string(kExec) + "early bytes");
    ASSERT_OK(again);
    EXPECT_EQ(again->early, "early bytes");
}

TEST(HttpHead, Endless_head_is_refused_while_it_comes) {
    auto [client, server] = make_memory_pair();
    Thread sender("sender", [&to = *client](const std::stop_token&) {
        const std::string line = "A: " + std::string(1000, 'x') + "\r\n";
        while (to.write(line, soon())) {
        }
    });
    auto read = read_request_head(*server, soon());
    EXPECT_EQ(kind_of(read), ErrorKind::Invalid);
    EXPECT_EQ(read.error().http_status, 431);
    server.reset();
}

TEST(HttpHead, End_before_and_inside_a_head_differ) {
    {
        auto [client, server] = make_memory_pair();
        client.reset();
        EXPECT_EQ(kind_of(read_request_head(*server, soon())), ErrorKind::NotFound);
    }
    auto [client, server] = make_memory_pair();
    ASSERT_OK(client->write("GET /", soon()));
    client.reset();
    EXPECT_EQ(kind_of(read_request_head(*server, soon())), ErrorKind::Unavailable);
}

TEST(HttpHead, Writes_heads_whose_values_cannot_become_headers) {
    EXPECT_EQ(write_response_head(101, {{"Connection", "Upgrade"}, {"Upgrade", "SPDY/3.1"}}),
              "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n");
    const auto head = write_request_head("GET", "/x", {{"A", "b\r\nEvil: yes"}});
    EXPECT_EQ(head, "GET /x HTTP/1.1\r\nA: b  Evil: yes\r\n\r\n");
    EXPECT_EQ(write_simple_response(403, "no"),
              "HTTP/1.1 403 Forbidden\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 2\r\n"
              "Connection: close\r\n\r\nno");
}

TEST(WebSocketHandshake, Accept_key_is_that_of_the_rfc) {
    EXPECT_EQ(ws::accept_key("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");  // RFC 6455 §1.3
}

TEST(WebSocketHandshake, Client_and_server_agree) {
    const auto key = ws::new_client_key();
    const auto request =
        parse_request_head(write_request_head("GET", "/exec", ws::upgrade_request_headers(key, {"a", "b"})));
    ASSERT_OK(request);
    ASSERT_OK(ws::check_upgrade_request(*request));
    EXPECT_THAT(request->headers.list("sec-websocket-protocol"), ElementsAre("a", "b"));
    const auto response = parse_response_head(ws::write_upgrade_response(*request, "b"));
    ASSERT_OK(response);
    EXPECT_OK(ws::check_upgrade_response(*response, key));
    EXPECT_EQ(response->headers.get("sec-websocket-protocol"), "b");
    EXPECT_EQ(kind_of(ws::check_upgrade_response(*response, ws::new_client_key())), ErrorKind::Protocol);
}

TEST(WebSocketHandshake, Bad_requests_are_refused) {
    const auto check = [](const std::string& method, HeaderLines lines) {
        const auto head = parse_request_head(write_request_head(method, "/", lines));
        return ws::check_upgrade_request(*head);
    };
    const auto good = ws::upgrade_request_headers("dGhlIHNhbXBsZSBub25jZQ==", {});
    EXPECT_OK(check("GET", good));
    EXPECT_EQ(check("POST", good).error().http_status, 400);
    auto old = good;
    old[2].second = "8";
    EXPECT_EQ(check("GET", old).error().http_status, 426);
    auto short_key = good;
    short_key[3].second = "YQ==";
    EXPECT_EQ(check("GET", short_key).error().http_status, 400);
    EXPECT_EQ(check("GET", {}).error().http_status, 400);
}

}  // namespace
}  // namespace k8sgpu::net
