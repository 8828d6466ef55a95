#include <sys/socket.h>

#include "net/socket_stream.h"
#include "net/tls_context.h"
#include "net/tls_stream.h"
#include "tests/unit/net/support.h"
#include "tests/unit/net/test_certificates.h"

namespace k8sgpu::net {
namespace {

using namespace test;

struct FdPair {
    Fd client;
    Fd server;
};
FdPair socket_pair() {
    int fds[2] = {-1, -1};
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    return {Fd(fds[0]), Fd(fds[1])};
}

struct Handshake {
    Result<std::unique_ptr<TlsStream>> client = fail(ErrorKind::Internal, "not run");
    Result<std::unique_ptr<TlsStream>> server = fail(ErrorKind::Internal, "not run");
};
Handshake handshake(const TlsServerContext& server, const TlsClientContext& client,
                    const std::string& name = "localhost") {
    auto fds = socket_pair();
    Handshake done;
    Thread accepting("accept", [&](const std::stop_token&) {
        done.server = TlsStream::accept(std::move(fds.server), server, soon());
    });
    done.client = TlsStream::connect(std::move(fds.client), client, name, soon());
    accepting.join();
    return done;
}

class Tls : public testing::Test {
  protected:
    void SetUp() override {
        auto made = TlsServerContext::create();
        ASSERT_OK(made);
        server_ = *std::move(made);
        ASSERT_OK(server_->set_certificate(leaf_.certificate_pem, leaf_.key_pem));
        client_ = make_client({ca_.certificate_pem, false, "", ""});
    }
    static std::unique_ptr<TlsClientContext> make_client(const TlsClientOptions& options) {
        auto made = TlsClientContext::create(options);
        EXPECT_OK(made);
        return made ? *std::move(made) : nullptr;
    }

    KeyAndCertificate ca_ = make_certificate("test CA", "");
    KeyAndCertificate leaf_ = make_certificate("first", "DNS:localhost,IP:127.0.0.1", &ca_);
    std::unique_ptr<TlsServerContext> server_;
    std::unique_ptr<TlsClientContext> client_;
};

TEST_F(Tls, Carries_bytes_and_half_closes) {
    auto [client, server] = handshake(*server_, *client_);
    ASSERT_OK(client);
    ASSERT_OK(server);
    EXPECT_EQ((*server)->protocol_version(), "TLSv1.3");
    EXPECT_TRUE((*server)->peer_certificates().empty());
    EXPECT_FALSE((*server)->readable());
    ASSERT_OK((*client)->write("question", soon()));
    ASSERT_OK((*client)->shut_write());
    EXPECT_TRUE((*server)->readable());
    EXPECT_EQ(read_all(**server).bytes, "question");
    ASSERT_OK((*server)->write("answer", soon()));
    EXPECT_EQ(read_exactly(**client, 6), "answer");
    server->reset();
    const auto rest = read_all(**client);
    EXPECT_FALSE(rest.error) << "an orderly destroyed stream says goodbye";
}

TEST_F(Tls, Server_name_is_checked_against_names_and_addresses) {
    EXPECT_OK(handshake(*server_, *client_, "127.0.0.1").client);
    auto refused = handshake(*server_, *client_, "other.example");
    EXPECT_EQ(kind_of(refused.client), ErrorKind::TlsFailure);
    EXPECT_THAT(refused.client.error().message, testing::HasSubstr("hostname mismatch"));
    auto insecure = make_client({"", true, "", ""});
    EXPECT_OK(handshake(*server_, *insecure, "other.example").client);
    auto stranger = make_client({make_certificate("other CA", "").certificate_pem, false, "", ""});
    EXPECT_EQ(kind_of(handshake(*server_, *stranger).client), ErrorKind::TlsFailure);
}

TEST_F(Tls, Swapped_certificate_serves_new_handshakes_and_leaves_old_connections_alone) {
    auto before = handshake(*server_, *client_);
    ASSERT_OK(before.client);
    ASSERT_OK(before.server);
    const auto renewed = make_certificate("second", "DNS:localhost", &ca_);
    ASSERT_OK(server_->set_certificate(renewed.certificate_pem, renewed.key_pem));
    auto after = handshake(*server_, *client_);
    ASSERT_OK(after.client);
    EXPECT_EQ(common_name(*(*before.client)->peer_certificates().at(0)), "first");
    EXPECT_EQ(common_name(*(*after.client)->peer_certificates().at(0)), "second");
    ASSERT_OK((*before.client)->write("still here", soon()));
    EXPECT_EQ(read_exactly(**before.server, 10), "still here");
}

TEST_F(Tls, Certificate_can_be_swapped_while_handshakes_run) {
    const auto renewed = make_certificate("second", "DNS:localhost", &ca_);
    Thread swapper("swapper", [&](const std::stop_token& stop) {
        while (!stop.stop_requested()) {
            EXPECT_OK(server_->set_certificate(renewed.certificate_pem, renewed.key_pem));
            EXPECT_OK(server_->set_client_ca(ca_.certificate_pem));
            EXPECT_OK(server_->set_certificate(leaf_.certificate_pem, leaf_.key_pem));
            EXPECT_OK(server_->set_client_ca(""));
        }
    });
    for (int i = 0; i < 20; ++i) {
        auto [client, server] = handshake(*server_, *client_);
        EXPECT_OK(client);
        EXPECT_OK(server);
    }
}

TEST_F(Tls, Without_a_certificate_the_handshake_fails_until_there_is_one) {
    server_->clear_certificate();
    EXPECT_FALSE(server_->has_certificate());
    auto refused = handshake(*server_, *client_);
    EXPECT_EQ(kind_of(refused.server), ErrorKind::TlsFailure);
    EXPECT_FALSE(refused.client.has_value());
    ASSERT_OK(server_->set_certificate(leaf_.certificate_pem, leaf_.key_pem));
    EXPECT_OK(handshake(*server_, *client_).client);
}

TEST_F(Tls, Bad_certificates_are_refused_and_the_old_one_stays) {
    const auto other = make_certificate("other", "DNS:localhost", &ca_);
    EXPECT_EQ(kind_of(server_->set_certificate(leaf_.certificate_pem, other.key_pem)), ErrorKind::Invalid);
    EXPECT_EQ(kind_of(server_->set_certificate("nonsense", leaf_.key_pem)), ErrorKind::Invalid);
    EXPECT_EQ(kind_of(server_->set_certificate(leaf_.certificate_pem, "nonsense")), ErrorKind::Invalid);
    const auto cut = leaf_.certificate_pem.substr(0, 200) + "\n-----END CERTIFICATE-----\n";
    EXPECT_EQ(kind_of(server_->set_certificate(cut, leaf_.key_pem)), ErrorKind::Invalid);
    EXPECT_OK(handshake(*server_, *client_).client);
    EXPECT_EQ(kind_of(TlsServerContext::create({TlsVersion::Tls12, "NO-SUCH-CIPHER"})), ErrorKind::Invalid);
}

TEST_F(Tls, Client_certificates_are_shown_whoever_signed_them) {
    const auto intermediate = make_certificate("intermediate", "", &ca_);
    const auto user = make_certificate("some user", "DNS:user", &intermediate);
    auto with_chain = make_client(
        {ca_.certificate_pem, false, user.certificate_pem + intermediate.certificate_pem, user.key_pem});
    auto [client, server] = handshake(*server_, *with_chain);
    ASSERT_OK(client);
    ASSERT_OK(server);
    const auto chain = (*server)->peer_certificates();
    ASSERT_EQ(chain.size(), 2U);
    EXPECT_EQ(common_name(*chain[0]), "some user");
    EXPECT_EQ(common_name(*chain[1]), "intermediate");
    EXPECT_EQ((*server)->peer_chain_pem(), user.certificate_pem + intermediate.certificate_pem);

    const auto stranger = make_certificate("stranger", "DNS:x");
    auto unknown = make_client({ca_.certificate_pem, false, stranger.certificate_pem, stranger.key_pem});
    auto second = handshake(*server_, *unknown);
    ASSERT_OK(second.server);
    EXPECT_EQ((*second.server)->peer_certificates().size(), 1U);
}

TEST_F(Tls, Client_ca_names_are_advertised) {
    ASSERT_OK(server_->set_client_ca(ca_.certificate_pem));
    EXPECT_EQ(kind_of(server_->set_client_ca("nonsense")), ErrorKind::Invalid);
    auto fds = socket_pair();
    Thread accepting("accept", [&](const std::stop_token&) {
        EXPECT_OK(TlsStream::accept(std::move(fds.server), *server_, soon()));
    });
    std::string seen;
    SSL_CTX_set_client_cert_cb(client_->native(), [](SSL* ssl, X509**, EVP_PKEY**) {
        const auto* names = SSL_get_client_CA_list(ssl);
        auto* text = static_cast<std::string*>(SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl)));
        for (int i = 0; i < sk_X509_NAME_num(names); ++i) {
            char name[256] = {};
            X509_NAME_get_text_by_NID(sk_X509_NAME_value(names, i), NID_commonName, name, sizeof name);
            *text += name;
        }
        return 0;
    });
    SSL_CTX_set_app_data(client_->native(), &seen);
    EXPECT_OK(TlsStream::connect(std::move(fds.client), *client_, "localhost", soon()));
    accepting.join();
    EXPECT_EQ(seen, "test CA");
}

TEST_F(Tls, Older_versions_are_refused) {
    auto strict = TlsServerContext::create({TlsVersion::Tls13, ""});
    ASSERT_OK(strict);
    ASSERT_OK((*strict)->set_certificate(leaf_.certificate_pem, leaf_.key_pem));
    SSL_CTX_set_max_proto_version(client_->native(), TLS1_2_VERSION);
    EXPECT_FALSE(handshake(**strict, *client_).client.has_value());
    auto [client, server] = handshake(*server_, *client_);
    ASSERT_OK(server);
    EXPECT_EQ((*server)->protocol_version(), "TLSv1.2");
}

TEST_F(Tls, Silent_client_does_not_hold_the_handshake_beyond_its_deadline) {
    auto fds = socket_pair();
    EXPECT_EQ(kind_of(TlsStream::accept(std::move(fds.server), *server_, within(Duration(10)))),
              ErrorKind::Timeout);
    auto others = socket_pair();
    others.client.reset();
    EXPECT_EQ(kind_of(TlsStream::accept(std::move(others.server), *server_, soon())), ErrorKind::Unavailable);
    auto plain = socket_pair();
    SocketStream talker(std::move(plain.client));
    ASSERT_OK(talker.write("GET / HTTP/1.1\r\n\r\n", soon()));
    EXPECT_EQ(kind_of(TlsStream::accept(std::move(plain.server), *server_, soon())), ErrorKind::TlsFailure);
}

TEST_F(Tls, Both_directions_carry_64_MiB_at_once) {
    auto [client, server] = handshake(*server_, *client_);
    ASSERT_OK(client);
    ASSERT_OK(server);
    constexpr std::size_t kRounds = 64;
    const auto upward = pattern(1U << 20U, 1);
    const auto downward = pattern(1U << 20U, 2);
    const auto send = [](ByteStream& to, const std::string& block) {
        for (std::size_t i = 0; i < kRounds; ++i) EXPECT_OK(to.write(block, soon()));
        EXPECT_OK(to.shut_write());
    };
    const auto expect = [](ByteStream& from, const std::string& block) {
        for (std::size_t i = 0; i < kRounds; ++i) EXPECT_TRUE(read_exactly(from, block.size()) == block) << i;
        EXPECT_FALSE(read_all(from).error);
    };
    Thread up("up", [&](const std::stop_token&) { send(**client, upward); });
    Thread down("down", [&](const std::stop_token&) { send(**server, downward); });
    Thread at_client("at-client", [&](const std::stop_token&) { expect(**client, downward); });
    expect(**server, upward);
}

TEST_F(Tls, Cancel_wakes_reader_and_writer) {
    auto [client, server] = handshake(*server_, *client_);
    ASSERT_OK(client);
    ASSERT_OK(server);
    auto& stream = **client;
    Thread reader("reader", [&](const std::stop_token&) {
        std::array<char, 4> buffer;
        EXPECT_EQ(kind_of(stream.read(buffer, soon())), ErrorKind::Cancelled);
    });
    Thread writer("writer", [&](const std::stop_token&) {
        EXPECT_EQ(kind_of(stream.write(std::string(8U << 20U, 'x'), soon())), ErrorKind::Cancelled);
    });
    read_exactly(**server, 100'000);
    stream.cancel();
    reader.join();
    writer.join();
    EXPECT_EQ(kind_of(stream.write("x", soon())), ErrorKind::Cancelled);
}

TEST_F(Tls, Write_cut_short_makes_the_stream_unusable_instead_of_wrong) {
    auto [client, server] = handshake(*server_, *client_);
    ASSERT_OK(client);
    ASSERT_OK(server);
    EXPECT_EQ(kind_of((*client)->write(std::string(8U << 20U, 'x'), within(Duration(50)))),
              ErrorKind::Timeout);
    EXPECT_EQ(kind_of((*client)->write("y", soon())), ErrorKind::Unavailable);
}

TEST_F(Tls, End_without_goodbye_is_unavailable) {
    auto [client, server] = handshake(*server_, *client_);
    ASSERT_OK(client);
    ASSERT_OK(server);
    (*server)->cancel();  // a cancelled stream must not look complete
    server->reset();
    const auto received = read_all(**client);
    ASSERT_TRUE(received.error);
    EXPECT_EQ(received.error->kind, ErrorKind::Unavailable);
}

}  // namespace
}  // namespace k8sgpu::net
