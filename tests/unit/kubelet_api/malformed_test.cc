// What no client should send, over real sockets: the right code, the right text, and a server that goes on.
#include "kubelet_api/server.h"
#include "kubelet_api/tls_ciphers.h"
#include "net/socket_stream.h"
#include "tests/unit/kubelet_api/api_fixture.h"

namespace k8sgpu::kubelet_api {
namespace {

struct MalformedTest : ApiTest {
    void expect_alive() {
        const auto answer = client()->Get("/healthz");
        ASSERT_TRUE(answer) << "the server is gone";
        EXPECT_EQ(answer->body, "ok");
    }
    // The status line of what comes back for these bytes.
    std::string status_of_answer(const std::string& bytes) {
        const std::string answer = talk(bytes);
        return answer.substr(0, answer.find("\r\n"));
    }
};

TEST_F(MalformedTest, Heads_that_are_none_get_400_and_the_server_lives) {
    start();
    for (const std::string bytes :
         {"GET\r\n\r\n", "GET /healthz\r\n\r\n", "GET  /healthz HTTP/1.1\r\n\r\n",
          "GET /healthz HTTP/1.1\r\nno colon\r\n\r\n", "GET /healthz HTTP/1.1\r\nbad name: x\r\n\r\n",
          "GET /healthz HTTP/1.1\r\n folded\r\n\r\n", "GET /healthz HTTP/1.1\r\nA: b\x01\r\n\r\n",
          "\x16\x03\x01\r\n\r\n"}) {
        EXPECT_TRUE(status_of_answer(bytes).starts_with("HTTP/1.1 400 ")) << bytes;
    }
    expect_alive();
}

TEST_F(MalformedTest, A_version_that_is_not_ours_gets_505) {
    start();
    for (const char* version : {"HTTP/2.0", "HTTP/0.9", "HTTP/3.1"}) {
        const std::string line =
            status_of_answer(std::string("GET /healthz ") + version + "\r\nHost: n\r\n\r\n");
        EXPECT_TRUE(line.starts_with("HTTP/1.1 505 ")) << version << ": " << line;
    }
    // The preface of HTTP/2 with prior knowledge.
    EXPECT_TRUE(status_of_answer("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").starts_with("HTTP/1.1 505 "));
    expect_alive();
}

TEST_F(MalformedTest, Heads_that_are_too_large_get_431) {
    options.limits.max_head_bytes = 8192;
    start();
    const std::string big(9000, 'x');
    EXPECT_TRUE(status_of_answer("GET /" + big + " HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 431 "));
    EXPECT_TRUE(
        status_of_answer("GET / HTTP/1.1\r\nCookie: " + big + "\r\n\r\n").starts_with("HTTP/1.1 431 "));
    std::string many = "GET / HTTP/1.1\r\n";
    for (int i = 0; i < 1001; ++i) many += "a: \r\n";
    EXPECT_TRUE(status_of_answer(many + "\r\n").starts_with("HTTP/1.1 431 "));
    expect_alive();
}

TEST_F(MalformedTest, Bodies_that_are_too_large_get_413_before_they_are_sent) {
    options.limits.max_body_bytes = 1000;
    start();
    const std::string head = "POST /run/ns/p/c HTTP/1.1\r\nHost: n\r\nAuthorization: Bearer good\r\n";
    EXPECT_TRUE(status_of_answer(head + "Content-Length: 1001\r\n\r\n").starts_with("HTTP/1.1 413 "));
    EXPECT_TRUE(status_of_answer(head + "Content-Length: -1\r\n\r\n").starts_with("HTTP/1.1 400 "));
    EXPECT_TRUE(
        status_of_answer(head + "Content-Length: 99999999999999999999\r\n\r\n").starts_with("HTTP/1.1 4"));
    EXPECT_TRUE(status_of_answer(head + "Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef")
                    .starts_with("HTTP/1.1 400 "));
    EXPECT_TRUE(status_of_answer(head + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\nabcde")
                    .starts_with("HTTP/1.1 400 "));
    EXPECT_TRUE(status_of_answer(head + "Transfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n")
                    .starts_with("HTTP/1.1 411 "));
    expect_alive();
}

TEST_F(MalformedTest, A_body_that_never_comes_ends_the_connection) {
    options.limits.head = Duration(300);
    start();
    EXPECT_EQ(talk("POST /run/ns/p/c HTTP/1.1\r\nHost: n\r\nAuthorization: Bearer good\r\nContent-Length: "
                   "9\r\n\r\nabc"),
              "");
    expect_alive();
}

TEST_F(MalformedTest, A_head_that_trickles_in_gets_408) {
    options.limits.head = Duration(300);
    start();
    const auto stream = connect();
    ASSERT_TRUE(stream);
    ASSERT_TRUE(stream->write("GET /healthz HT", ctx));
    EXPECT_TRUE(read_all(*stream).starts_with("HTTP/1.1 408 "));
    expect_alive();
}

TEST_F(MalformedTest, A_handshake_that_stalls_is_given_up) {
    options.limits.handshake = Duration(300);
    start();
    auto fd = net::dial("127.0.0.1", server->port(), ctx);
    ASSERT_TRUE(fd);
    auto plain = net::SocketStream(std::move(*fd));
    EXPECT_EQ(read_all(plain), "");
    fd = net::dial("127.0.0.1", server->port(), ctx);
    ASSERT_TRUE(fd);
    auto talking = net::SocketStream(std::move(*fd));
    ASSERT_TRUE(talking.write("GET /healthz HTTP/1.1\r\n\r\n", ctx)) << "plain HTTP on the TLS port";
    EXPECT_EQ(read_all(talking).find("HTTP/1.1 200"), std::string::npos);
    expect_alive();
}

TEST_F(MalformedTest, Methods_that_a_path_does_not_know_get_405) {
    start();
    for (const char* line : {"DELETE /pods", "PUT /containerLogs/ns/p/c", "GET /run/ns/p/c",
                             "PATCH /stats/summary", "GET /checkpoint/ns/p/c", "BREW /exec/ns/p/c"}) {
        const std::string answer =
            talk(std::string(line) +
                 " HTTP/1.1\r\nHost: n\r\nAuthorization: Bearer good\r\nConnection: close\r\n\r\n");
        EXPECT_TRUE(answer.starts_with("HTTP/1.1 405 ")) << line << ": " << answer;
        EXPECT_TRUE(answer.ends_with("405: Method Not Allowed")) << line;
    }
    expect_alive();
}

TEST_F(MalformedTest, Upgrades_that_are_cut_short_or_of_the_wrong_version_end_in_words) {
    provider.on_exec = [](const auto&, auto&, const auto&) {
        return Result<providers::ExitStatus>(providers::ExitStatus{0});
    };
    options.limits.head = Duration(500);
    options.limits.idle = Duration(500);
    options.limits.stream_creation = Duration(500);
    start();
    const std::string head =
        "POST /exec/ns/p/c?command=id&output=1 HTTP/1.1\r\nHost: n\r\nAuthorization: Bearer good\r\n";
    EXPECT_TRUE(status_of_answer(head + "Connection: Upgr").starts_with("HTTP/1.1 408 "));
    EXPECT_TRUE(status_of_answer(head + "Connection: Upgrade\r\n\r\n").starts_with("HTTP/1.1 400 "));
    EXPECT_TRUE(status_of_answer(head + "Connection: Upgrade\r\nUpgrade: SPDY/2\r\n\r\n")
                    .starts_with("HTTP/1.1 400 "));
    EXPECT_TRUE(status_of_answer(head + "Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n")
                    .starts_with("HTTP/1.1 400 "));
    EXPECT_TRUE(status_of_answer(head + "Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\n"
                                        "X-Stream-Protocol-Version: v9.channel.k8s.io\r\n\r\n")
                    .starts_with("HTTP/1.1 403 "));
    // Upgraded in order, then nothing of a frame, or rubbish.
    const std::string good = head +
                             "Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\n"
                             "X-Stream-Protocol-Version: v4.channel.k8s.io\r\n\r\n";
    EXPECT_TRUE(status_of_answer(good + "\x80\x03").starts_with("HTTP/1.1 101 "));
    EXPECT_TRUE(status_of_answer(good + std::string(64, '\xff')).starts_with("HTTP/1.1 101 "));
    expect_alive();
}

TEST(TlsCiphers, Are_named_as_the_kubelet_names_them) {
    EXPECT_EQ(*openssl_cipher_list(""), "");
    EXPECT_EQ(
        *openssl_cipher_list("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305"),
        "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-CHACHA20-POLY1305");
    EXPECT_EQ(*openssl_cipher_list("TLS_AES_128_GCM_SHA256"), "") << "TLS 1.3 chooses for itself";
    for (const char* bad : {"TLS_NULL_WITH_NULL_NULL", "ECDHE-RSA-AES128-GCM-SHA256", "x", ","})
        EXPECT_FALSE(openssl_cipher_list(bad)) << bad;
}

TEST_F(MalformedTest, A_client_without_the_demanded_cipher_is_refused_at_the_handshake) {
    net::TlsServerOptions only;
    only.cipher_list = *openssl_cipher_list("TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384");
    tls = std::move(*net::TlsServerContext::create(only));
    ASSERT_TRUE(tls->set_certificate(server_identity.certificate_pem, server_identity.key_pem));
    start();
    const auto handshake = [&](const char* ciphers) {
        auto context = client_context({});
        SSL_CTX_set_max_proto_version(context->native(), TLS1_2_VERSION);
        SSL_CTX_set_cipher_list(context->native(), ciphers);
        auto fd = net::dial("127.0.0.1", server->port(), ctx);
        return fd && net::TlsStream::connect(std::move(*fd), *context, "127.0.0.1", ctx).has_value();
    };
    EXPECT_TRUE(handshake("ECDHE-ECDSA-AES256-GCM-SHA384"));
    EXPECT_FALSE(handshake("ECDHE-ECDSA-AES128-GCM-SHA256"));
}

}  // namespace
}  // namespace k8sgpu::kubelet_api
