// The server on a real TLS socket of a free port, with a fake provider behind it, and clients for it:
// cpp-httplib for plain requests, raw TLS streams for upgrades and malformed ones.
#pragma once

#include <gtest/gtest.h>
#include <httplib.h>

#include <memory>
#include <string>

#include "kubelet_api/server.h"
#include "net/dial.h"
#include "net/http_head.h"
#include "net/tls_context.h"
#include "net/tls_stream.h"
#include "tests/unit/kubelet_api/fake_provider.h"
#include "tests/unit/kubelet_api/test_ca.h"

namespace k8sgpu::kubelet_api {

// Knows the token "good" and whoever has a certificate; everybody else is nobody.
class FakeAuthenticator final : public Authenticator {
  public:
    Result<User> authenticate(const Credentials& credentials, const CallContext&) override {
        if (credentials.bearer == "good") return User{"tester", "", {"system:authenticated"}, {}};
        if (!credentials.certificates.empty()) return User{"by-certificate", "", {}, {}};
        return fail(ErrorKind::Unauthorized, "nobody");
    }
};

class FakeAuthorizer final : public Authorizer {
  public:
    Result<void> authorize(const User& user, const AccessAttributes& attributes,
                           const CallContext&) override {
        asked.lock()->push_back(user.name + " " + attributes.verb + " " + attributes.subresources.front());
        if (auto& refusal = *answer.lock()) return fail(*refusal);
        return {};
    }
    Guarded<std::vector<std::string>> asked;
    Guarded<std::optional<Error>> answer;
};

struct ApiTest : testing::Test {
    ApiTest() {
        options.address = "127.0.0.1";
        options.port = 0;
        options.node_name = "k8s.gpu";
        options.configz = {{"maxPods", 110}};
        EXPECT_TRUE(tls->set_certificate(server_identity.certificate_pem, server_identity.key_pem));
        pods.runs_pods = {&provider};
        pods.put(view({{"running", Json::object()}}));
    }
    ~ApiTest() override {
        if (server) server->stop();
    }
    PodView view(const Json& state, const Json& last = Json::object()) {
        return {{"ns", "p", "uid-p"}, std::make_shared<const Json>(pod_json(state, last)), &provider};
    }
    void start() {
        server = std::make_unique<Server>(clock, options, *tls, authenticator, authorizer, pods, registry,
                                          [this] { return *health.lock(); });
        const auto started = server->start();
        ASSERT_TRUE(started) << started.error().message;
    }
    // A client that presents the good token.
    std::unique_ptr<httplib::SSLClient> client() {
        auto out = std::make_unique<httplib::SSLClient>("127.0.0.1", server->port());
        out->enable_server_certificate_verification(false);
        out->set_bearer_token_auth("good");
        out->set_read_timeout(20);
        return out;
    }
    std::unique_ptr<net::TlsStream> connect() {
        auto fd = net::dial("127.0.0.1", server->port(), ctx);
        if (!fd) return nullptr;
        auto stream = net::TlsStream::connect(std::move(*fd), *trusting, "127.0.0.1", ctx);
        return stream ? std::move(*stream) : nullptr;
    }
    std::unique_ptr<net::TlsClientContext> client_context(const TestIdentity& identity) const {
        net::TlsClientOptions tls_options;
        tls_options.ca_pem = ca.pem();
        tls_options.certificate_pem = identity.certificate_pem;
        tls_options.key_pem = identity.key_pem;
        return std::move(*net::TlsClientContext::create(tls_options));
    }
    // Sends raw text over a fresh connection and returns everything that comes back until the end.
    std::string talk(const std::string& text) {
        const auto stream = connect();
        if (!stream) return "no connection";
        if (!text.empty()) (void)stream->write(text, ctx);
        return read_all(*stream);
    }
    std::string read_all(net::ByteStream& stream) {
        std::string out;
        char buffer[4096];
        while (true) {
            const auto got = stream.read(buffer, ctx);
            if (!got || *got == 0) return out;
            out.append(buffer, *got);
        }
    }
    struct Opened {
        std::unique_ptr<net::TlsStream> stream;
        net::ReadHead<net::HttpResponseHead> answer;
    };
    // An upgrade request with the good token.
    Opened upgrade(const std::string& method, const std::string& target, net::HeaderLines lines) {
        Opened out;
        out.stream = connect();
        if (!out.stream) return out;
        lines.emplace_back("Host", "node");
        lines.emplace_back("Authorization", "Bearer good");
        (void)out.stream->write(net::write_request_head(method, target, lines), ctx);
        auto head = net::read_response_head(*out.stream, ctx);
        EXPECT_TRUE(head);
        if (head) out.answer = std::move(*head);
        return out;
    }

    SystemClock clock;
    CallContext ctx = CallContext::with_timeout(clock, Duration(30'000), {});
    TestCa ca;
    TestIdentity server_identity = ca.issue({"server", {}, "serverAuth", "IP:127.0.0.1"});
    std::unique_ptr<net::TlsServerContext> tls = std::move(*net::TlsServerContext::create());
    std::unique_ptr<net::TlsClientContext> trusting = client_context({});
    MetricsRegistry registry;
    FakeAuthenticator authenticator;
    FakeAuthorizer authorizer;
    FakeProvider provider;
    MapLookup pods;
    Guarded<Result<void>> health;
    ServerOptions options;
    std::unique_ptr<Server> server;
};

}  // namespace k8sgpu::kubelet_api
