#include "tests/unit/kube/fake_api_server.h"

#include <openssl/x509.h>
#include <spdlog/fmt/fmt.h>

#include "net/dial.h"
#include "net/pump.h"
#include "net/socket_stream.h"

namespace k8sgpu::kube {
namespace {

std::string common_name(const net::TlsStream& stream) {
    const auto chain = stream.peer_certificates();
    if (chain.empty()) return "";
    char text[256] = "";
    X509_NAME_get_text_by_NID(X509_get_subject_name(chain[0].get()), NID_commonName, text, sizeof text);
    return text;
}

int remember_sni(SSL* ssl, int* /*alert*/, void* into) {
    const char* name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    *static_cast<Guarded<std::string>*>(into)->lock() = name == nullptr ? "" : name;
    return SSL_TLSEXT_ERR_OK;
}

}  // namespace

ConnectionServer::ConnectionServer(Serve serve) : serve_(std::move(serve)) {
    listener_ = std::move(*net::Listener::open("127.0.0.1", 0));
    acceptor_ = Thread("accept", [this](const std::stop_token&) {
        const CallContext ctx = CallContext::until_stopped(clock_, stop_.get_token());
        while (true) {
            auto fd = listener_->accept(ctx);
            if (!fd) return;
            ++*connections_.lock();
            auto shared = std::make_shared<net::Fd>(std::move(*fd));
            threads_.lock()->emplace_back(
                "serve", [this, shared, ctx](const std::stop_token&) { serve_(std::move(*shared), ctx); });
        }
    });
}

void ConnectionServer::stop() {
    stop_.request_stop();
    acceptor_.stop();
    std::list<Thread> threads;
    std::swap(threads, *threads_.lock());
    for (Thread& thread : threads) thread.join();
}

void FakeApiServer::Call::reply(int status, const std::string& text, const net::HeaderLines& more) {
    net::HeaderLines lines = more;
    lines.emplace_back("Content-Type", "application/json");
    lines.emplace_back("Content-Length", std::to_string(text.size()));
    (void)stream.write(net::write_response_head(status, lines) + text, ctx).has_value();
}

void FakeApiServer::Call::begin_chunked(int status) {
    (void)stream.write(net::write_response_head(status, {{"Transfer-Encoding", "chunked"}}), ctx).has_value();
}

bool FakeApiServer::Call::chunk(const std::string& text) {
    return stream.write(fmt::format("{:x}\r\n{}\r\n", text.size(), text), ctx).has_value();
}

void FakeApiServer::Call::end_chunked() {
    (void)stream.write("0\r\n\r\n", ctx).has_value();
}

void FakeApiServer::Call::wait_until_stopped() {
    char byte = 0;
    while (true) {
        const auto got = stream.read(std::span(&byte, 1), ctx);
        if (!got || *got == 0) return;
    }
}

FakeApiServer::FakeApiServer(Handler handler, std::optional<ServerTls> tls) : handler_(std::move(handler)) {
    if (tls) {
        tls_ = std::move(*net::TlsServerContext::create());
        (void)tls_->set_certificate(tls->pair.cert, tls->pair.key).has_value();
        if (!tls->client_ca.empty()) (void)tls_->set_client_ca(tls->client_ca).has_value();
        SSL_CTX_set_tlsext_servername_callback(tls_->native(), &remember_sni);
        SSL_CTX_set_tlsext_servername_arg(tls_->native(), &last_sni_);
    }
    server_ = std::make_unique<ConnectionServer>(
        [this](net::Fd fd, const CallContext& ctx) { serve(std::move(fd), ctx); });
}

std::string FakeApiServer::url(const std::string& host) const {
    return (tls_ == nullptr ? "http://" : "https://") + host + ":" + std::to_string(port());
}

void FakeApiServer::serve(net::Fd fd, const CallContext& ctx) {
    if (tls_ == nullptr) {
        net::SocketStream stream(std::move(fd));
        return serve_requests(stream, "", ctx);
    }
    auto stream = net::TlsStream::accept(std::move(fd), *tls_, ctx);
    if (stream) serve_requests(**stream, common_name(**stream), ctx);
}

void FakeApiServer::serve_requests(net::ByteStream& stream, const std::string& client_cn,
                                   const CallContext& ctx) {
    std::string left_over;
    while (true) {
        auto head = net::read_request_head(stream, ctx, std::move(left_over));
        if (!head) return;
        Call call{std::move(head->head), std::move(head->early), client_cn, "", stream, ctx};
        const std::size_t length = std::strtoul(call.header("content-length").c_str(), nullptr, 10);
        char chunk[8192];
        while (call.body.size() < length) {
            const auto got = stream.read(chunk, ctx);
            if (!got || *got == 0) return;
            call.body.append(chunk, *got);
        }
        left_over = call.body.substr(length);
        call.early = left_over;
        call.body.resize(length);
        if (!handler_(call)) return;
    }
}

FakeProxy::FakeProxy(std::uint16_t target_port, int status) {
    server_ =
        std::make_unique<ConnectionServer>([this, target_port, status](net::Fd fd, const CallContext& ctx) {
            net::SocketStream client(std::move(fd));
            const auto head = net::read_request_head(client, ctx);
            if (!head) return;
            *asked_.lock() = head->head.method + " " + head->head.target;
            *authorization_.lock() = std::string(head->head.headers.get("proxy-authorization"));
            if (!client.write(net::write_response_head(status, {}), ctx) || status != 200) return;
            auto socket = net::dial("127.0.0.1", target_port, ctx);
            if (!socket) return;
            net::SocketStream server(std::move(*socket));
            (void)net::pump_both_ways(client, server, ctx).has_value();
        });
}

std::string FakeProxy::url(const std::string& user) const {
    return "http://" + (user.empty() ? "" : user + "@") + "127.0.0.1:" + std::to_string(server_->port());
}

}  // namespace k8sgpu::kube
