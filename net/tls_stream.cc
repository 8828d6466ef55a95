#include "net/tls_stream.h"

#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <poll.h>

#include <cerrno>

#include "net/internal/socket_bio.h"
#include "net/internal/socket_io.h"
#include "net/socket_stream.h"

namespace k8sgpu::net {

namespace {

constexpr Duration kGoodbyeLimit{1'000};

Error cancelled_error() {
    return Error{ErrorKind::Cancelled, "stream cancelled", {}, {}};
}

// What a failed SSL call means; reads errno and the error queue, so it runs right behind the call.
Error describe(int ssl_error, int error_number) {
    if (ssl_error == SSL_ERROR_SYSCALL) {
        ERR_clear_error();
        if (error_number == 0) return {ErrorKind::Unavailable, "peer closed the connection", {}, {}};
        return internal::socket_error(error_number, "TLS connection");
    }
    const auto reason = ERR_GET_REASON(ERR_peek_error());
    const auto text = take_openssl_errors();
    if (reason == SSL_R_UNEXPECTED_EOF_WHILE_READING) {
        return {ErrorKind::Unavailable, "peer closed the connection without ending TLS", {}, {}};
    }
    return {ErrorKind::TlsFailure, "TLS: " + text, {}, {}};
}

bool is_wait(int ssl_error) {
    return ssl_error == SSL_ERROR_WANT_READ || ssl_error == SSL_ERROR_WANT_WRITE;
}

Result<SslPtr> make_ssl(SSL_CTX* ctx, int fd) {
    ERR_clear_error();
    SslPtr ssl(SSL_new(ctx));
    auto bio = internal::make_socket_bio(fd);
    if (!ssl || !bio) return fail(ErrorKind::Internal, "creating a TLS connection: " + take_openssl_errors());
    BIO* both = bio.release();
    SSL_set_bio(ssl.get(), both, both);
    return ssl;
}

bool is_address(const std::string& name) {
    in6_addr scratch{};
    return ::inet_pton(AF_INET, name.c_str(), &scratch) == 1 ||
           ::inet_pton(AF_INET6, name.c_str(), &scratch) == 1;
}

Result<void> expect_server(SSL* ssl, const std::string& name) {
    X509_VERIFY_PARAM* param = SSL_get0_param(ssl);
    X509_VERIFY_PARAM_set_hostflags(
        param, X509_CHECK_FLAG_NEVER_CHECK_SUBJECT | X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    const bool ok = is_address(name) ? X509_VERIFY_PARAM_set1_ip_asc(param, name.c_str()) == 1
                                     : X509_VERIFY_PARAM_set1_host(param, name.c_str(), name.size()) == 1 &&
                                           SSL_set_tlsext_host_name(ssl, name.c_str()) == 1;
    if (ok) return {};
    ERR_clear_error();
    return fail(ErrorKind::Invalid, "'" + name + "' is not a server name");
}

}  // namespace

Result<std::unique_ptr<TlsStream>> TlsStream::accept(Fd fd, const TlsServerContext& context,
                                                     const CallContext& ctx) {
    auto ssl = make_ssl(context.native(), fd.get());
    if (!ssl) return fail(ssl.error());
    SSL_set_accept_state(ssl->get());
    std::unique_ptr<TlsStream> stream(new TlsStream(std::move(fd), *std::move(ssl)));
    if (auto ok = stream->handshake(ctx); !ok) return fail(ok.error().with_context("TLS handshake"));
    return stream;
}

Result<std::unique_ptr<TlsStream>> TlsStream::connect(Fd fd, const TlsClientContext& context,
                                                      const std::string& server_name,
                                                      const CallContext& ctx) {
    auto ssl = make_ssl(context.native(), fd.get());
    if (!ssl) return fail(ssl.error());
    SSL_set_connect_state(ssl->get());
    if (!context.insecure()) {
        if (auto ok = expect_server(ssl->get(), server_name); !ok) return fail(ok.error());
    } else if (!is_address(server_name)) {
        SSL_set_tlsext_host_name(ssl->get(), server_name.c_str());
    }
    std::unique_ptr<TlsStream> stream(new TlsStream(std::move(fd), *std::move(ssl)));
    if (auto ok = stream->handshake(ctx); !ok) {
        const auto verdict = SSL_get_verify_result(stream->ssl_.get());
        auto error = ok.error();
        if (error.kind == ErrorKind::TlsFailure && verdict != X509_V_OK) {
            error.message += std::string(" (") + X509_verify_cert_error_string(verdict) + ")";
        }
        return fail(error.with_context("TLS handshake with " + server_name));
    }
    return stream;
}

TlsStream::~TlsStream() {
    // A stream that was cut short must not look complete to the peer, so only an orderly one says goodbye.
    if (broken_ || write_shut_ || writer_.cancelled()) return;
    if (SSL_is_init_finished(ssl_.get()) == 1) SSL_shutdown(ssl_.get());
    ERR_clear_error();
}

Result<void> TlsStream::handshake(const CallContext& ctx) {
    broken_ = true;  // until it has succeeded
    while (true) {
        int ssl_error = SSL_ERROR_NONE;
        {
            const std::lock_guard lock(mutex_);
            ERR_clear_error();
            errno = 0;
            const int rc = SSL_do_handshake(ssl_.get());
            if (rc == 1) break;
            const int error_number = errno;
            ssl_error = SSL_get_error(ssl_.get(), rc);
            if (!is_wait(ssl_error)) return fail(describe(ssl_error, error_number));
        }
        if (auto ready = wait_for(ssl_error, reader_, ctx); !ready) return ready;
    }
    broken_ = false;
    return {};
}

Result<void> TlsStream::wait_for(int ssl_error, Waker& waker, const CallContext& ctx) {
    return waker.wait(fd_.get(), ssl_error == SSL_ERROR_WANT_WRITE ? POLLOUT : POLLIN, ctx);
}

Result<std::size_t> TlsStream::read(std::span<char> buffer, const CallContext& ctx) {
    while (true) {
        if (reader_.cancelled() || ctx.stop().stop_requested()) return fail(cancelled_error());
        int ssl_error = SSL_ERROR_NONE;
        {
            const std::lock_guard lock(mutex_);
            ERR_clear_error();
            errno = 0;
            std::size_t got = 0;
            const int rc = SSL_read_ex(ssl_.get(), buffer.data(), buffer.size(), &got);
            if (rc == 1) return got;
            const int error_number = errno;
            ssl_error = SSL_get_error(ssl_.get(), rc);
            if (ssl_error == SSL_ERROR_ZERO_RETURN) return std::size_t{0};
            if (!is_wait(ssl_error)) {
                broken_ = true;
                return fail(describe(ssl_error, error_number));
            }
        }
        if (auto ready = wait_for(ssl_error, reader_, ctx); !ready) return fail(ready.error());
    }
}

Result<void> TlsStream::write(std::string_view bytes, const CallContext& ctx) {
    bool record_pending = false;  // OpenSSL wants exactly these bytes again
    const auto give_up = [&](const Error& error) -> Result<void> {
        const std::lock_guard lock(mutex_);
        if (record_pending) broken_ = true;
        return fail(error);
    };
    while (!bytes.empty()) {
        if (writer_.cancelled() || ctx.stop().stop_requested()) return give_up(cancelled_error());
        int ssl_error = SSL_ERROR_NONE;
        {
            const std::lock_guard lock(mutex_);
            if (broken_) return fail(ErrorKind::Unavailable, "the connection broke earlier");
            if (write_shut_) return fail(ErrorKind::Invalid, "write after the end of the stream");
            ERR_clear_error();
            errno = 0;
            std::size_t sent = 0;
            const int rc = SSL_write_ex(ssl_.get(), bytes.data(), bytes.size(), &sent);
            if (rc == 1) {
                bytes.remove_prefix(sent);
                record_pending = false;
                continue;
            }
            const int error_number = errno;
            ssl_error = SSL_get_error(ssl_.get(), rc);
            if (!is_wait(ssl_error)) {
                broken_ = true;
                return fail(describe(ssl_error, error_number));
            }
            record_pending = true;
        }
        if (auto ready = wait_for(ssl_error, writer_, ctx); !ready) return give_up(ready.error());
    }
    return {};
}

Result<void> TlsStream::shut_write() {
    SystemClock clock;
    const auto ctx = CallContext::with_timeout(clock, kGoodbyeLimit, {});
    while (true) {
        int ssl_error = SSL_ERROR_NONE;
        {
            const std::lock_guard lock(mutex_);
            if (write_shut_) return {};
            if (broken_) return fail(ErrorKind::Unavailable, "the connection broke earlier");
            ERR_clear_error();
            errno = 0;
            const int rc = SSL_shutdown(ssl_.get());
            if (rc >= 0) {
                write_shut_ = true;
                return {};
            }
            const int error_number = errno;
            ssl_error = SSL_get_error(ssl_.get(), rc);
            if (!is_wait(ssl_error)) {
                broken_ = true;
                return fail(describe(ssl_error, error_number));
            }
        }
        if (auto ready = wait_for(ssl_error, writer_, ctx); !ready) return ready;
    }
}

void TlsStream::cancel() {
    reader_.cancel();
    writer_.cancel();
}

bool TlsStream::peer_hung_up() const {
    return socket_peer_hung_up(fd_.get());
}

bool TlsStream::readable() const {
    {
        const std::lock_guard lock(mutex_);
        if (SSL_has_pending(ssl_.get()) == 1) return true;
    }
    pollfd query{fd_.get(), POLLIN, 0};
    return ::poll(&query, 1, 0) > 0;
}

std::vector<X509Ptr> TlsStream::peer_certificates() const {
    const std::lock_guard lock(mutex_);
    std::vector<X509Ptr> certificates;
    X509Ptr leaf(SSL_get1_peer_certificate(ssl_.get()));
    if (!leaf) return certificates;
    const STACK_OF(X509)* chain = SSL_get_peer_cert_chain(ssl_.get());
    certificates.push_back(std::move(leaf));
    for (int i = 0; i < sk_X509_num(chain); ++i) {
        X509* one = sk_X509_value(chain, i);
        // On the client side OpenSSL's chain starts with the leaf, on the server side it does not.
        if (X509_cmp(one, certificates.front().get()) == 0) continue;
        X509_up_ref(one);
        certificates.emplace_back(one);
    }
    return certificates;
}

std::string TlsStream::peer_chain_pem() const {
    std::string pem;
    for (const auto& certificate : peer_certificates()) pem += certificate_pem(*certificate);
    return pem;
}

std::string TlsStream::protocol_version() const {
    const std::lock_guard lock(mutex_);
    return SSL_get_version(ssl_.get());
}

}  // namespace k8sgpu::net
