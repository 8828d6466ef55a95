#include "net/tls_context.h"

#include <openssl/err.h>

#include <atomic>

#include "common/guarded.h"
#include "common/log.h"

namespace k8sgpu::net {

namespace {

using X509StackPtr =
    std::unique_ptr<STACK_OF(X509),
                    decltype([](STACK_OF(X509) * stack) { sk_X509_pop_free(stack, X509_free); })>;
using NameStackPtr = std::unique_ptr<STACK_OF(X509_NAME), decltype([](STACK_OF(X509_NAME) * stack) {
                                         sk_X509_NAME_pop_free(stack, X509_NAME_free);
                                     })>;

struct CertifiedKey {
    X509Ptr leaf;
    X509StackPtr chain;
    EvpPkeyPtr key;
};

Result<std::shared_ptr<const CertifiedKey>> make_certified_key(const std::string& chain_pem,
                                                               const std::string& key_pem) {
    auto certificates = parse_certificates(chain_pem, "certificate");
    if (!certificates) return fail(certificates.error());
    auto key = parse_private_key(key_pem, "key");
    if (!key) return fail(key.error());
    if (X509_check_private_key((*certificates)[0].get(), key->get()) != 1) {
        ERR_clear_error();
        return fail(ErrorKind::Invalid, "the key does not belong to the certificate");
    }
    auto made = std::make_shared<CertifiedKey>();
    made->leaf = std::move((*certificates)[0]);
    made->key = *std::move(key);
    made->chain.reset(sk_X509_new_null());
    for (std::size_t i = 1; i < certificates->size(); ++i) {
        if (!made->chain || sk_X509_push(made->chain.get(), (*certificates)[i].get()) <= 0) {
            return fail(ErrorKind::Internal, "no memory for the certificate chain");
        }
        static_cast<void>((*certificates)[i].release());  // the stack owns it now
    }
    return std::shared_ptr<const CertifiedKey>(std::move(made));
}

void set_common(SSL_CTX* ctx, TlsVersion min_version) {
    SSL_CTX_set_min_proto_version(ctx, min_version == TlsVersion::Tls13 ? TLS1_3_VERSION : TLS1_2_VERSION);
    SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
    // TlsStream retries a record from another buffer, and must return between records to share the mutex.
    SSL_CTX_set_mode(
        ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
}

// The authenticator judges; see the header.
int accept_any_certificate(X509_STORE_CTX* store, void*) {
    X509_STORE_CTX_set_error(store, X509_V_OK);
    return 1;
}

int choose_http11(SSL*, const unsigned char** out, unsigned char* out_length, const unsigned char* in,
                  unsigned int in_length, void*) {
    static constexpr unsigned char kHttp11[] = "\x08http/1.1";
    unsigned char* chosen = nullptr;
    if (SSL_select_next_proto(&chosen, out_length, kHttp11, sizeof kHttp11 - 1, in, in_length) !=
        OPENSSL_NPN_NEGOTIATED) {
        return SSL_TLSEXT_ERR_NOACK;
    }
    *out = chosen;
    return SSL_TLSEXT_ERR_OK;
}

}  // namespace

struct TlsServerContext::Shared {
    struct Current {
        std::shared_ptr<const CertifiedKey> certificate;
        std::shared_ptr<const STACK_OF(X509_NAME)> ca_names;
    };
    Guarded<Current> current;
    std::atomic<bool> warned{false};

    // Runs inside each handshake, after the ClientHello.
    static int on_handshake(SSL* ssl, void* self) {
        auto& shared = *static_cast<Shared*>(self);
        Current now = *shared.current.lock();
        if (!now.certificate) {
            // Once, not once per probe of a port scanner.
            if (!shared.warned.exchange(true)) {
                log().warn("refusing TLS connections: there is no serving certificate yet");
            }
            return 0;
        }
        if (now.ca_names) SSL_set_client_CA_list(ssl, SSL_dup_CA_list(now.ca_names.get()));
        return SSL_use_cert_and_key(ssl, now.certificate->leaf.get(), now.certificate->key.get(),
                                    now.certificate->chain.get(), /*override=*/1);
    }
};

TlsServerContext::TlsServerContext(SslCtxPtr ctx, std::unique_ptr<Shared> shared)
    : shared_(std::move(shared)), ctx_(std::move(ctx)) {}

TlsServerContext::~TlsServerContext() = default;

Result<std::unique_ptr<TlsServerContext>> TlsServerContext::create(const TlsServerOptions& options) {
    ERR_clear_error();
    SslCtxPtr ctx(SSL_CTX_new(TLS_server_method()));
    if (!ctx) return fail(ErrorKind::Internal, "creating a TLS context: " + take_openssl_errors());
    set_common(ctx.get(), options.min_version);
    if (!options.cipher_list.empty() &&
        SSL_CTX_set_cipher_list(ctx.get(), options.cipher_list.c_str()) != 1) {
        ERR_clear_error();
        return fail(ErrorKind::Invalid, "no cipher of the list '" + options.cipher_list + "' is known");
    }
    // A resumed session brings the client's leaf but not its intermediates, so each handshake is a full one.
    SSL_CTX_set_options(ctx.get(), SSL_OP_NO_TICKET | SSL_OP_CIPHER_SERVER_PREFERENCE);
    SSL_CTX_set_session_cache_mode(ctx.get(), SSL_SESS_CACHE_OFF);
    SSL_CTX_set_num_tickets(ctx.get(), 0);
    SSL_CTX_set_verify(ctx.get(), SSL_VERIFY_PEER, nullptr);
    SSL_CTX_set_cert_verify_callback(ctx.get(), accept_any_certificate, nullptr);
    SSL_CTX_set_alpn_select_cb(ctx.get(), choose_http11, nullptr);
    auto shared = std::make_unique<Shared>();
    SSL_CTX_set_cert_cb(ctx.get(), &Shared::on_handshake, shared.get());
    return std::unique_ptr<TlsServerContext>(new TlsServerContext(std::move(ctx), std::move(shared)));
}

Result<void> TlsServerContext::set_certificate(const std::string& chain_pem, const std::string& key_pem) {
    auto made = make_certified_key(chain_pem, key_pem);
    if (!made) return fail(made.error().with_context("setting the serving certificate"));
    shared_->current.lock()->certificate = *made;
    shared_->warned = false;
    return {};
}

void TlsServerContext::clear_certificate() {
    shared_->current.lock()->certificate.reset();
}

bool TlsServerContext::has_certificate() const {
    return shared_->current.lock()->certificate != nullptr;
}

Result<void> TlsServerContext::set_client_ca(const std::string& ca_pem) {
    std::shared_ptr<const STACK_OF(X509_NAME)> published;
    if (!ca_pem.empty()) {
        auto certificates = parse_certificates(ca_pem, "client CA bundle");
        if (!certificates) return fail(certificates.error());
        NameStackPtr names(sk_X509_NAME_new_null());
        for (const auto& certificate : *certificates) {
            X509_NAME* name = X509_NAME_dup(X509_get_subject_name(certificate.get()));
            if (!names || name == nullptr || sk_X509_NAME_push(names.get(), name) <= 0) {
                X509_NAME_free(name);
                return fail(ErrorKind::Internal, "no memory for the client CA names");
            }
        }
        published = std::shared_ptr<const STACK_OF(X509_NAME)>(names.release(), names.get_deleter());
    }
    shared_->current.lock()->ca_names = std::move(published);
    return {};
}

Result<std::unique_ptr<TlsClientContext>> TlsClientContext::create(const TlsClientOptions& options) {
    ERR_clear_error();
    SslCtxPtr ctx(SSL_CTX_new(TLS_client_method()));
    if (!ctx) return fail(ErrorKind::Internal, "creating a TLS context: " + take_openssl_errors());
    set_common(ctx.get(), TlsVersion::Tls12);
    static constexpr unsigned char kHttp11[] = "\x08http/1.1";
    SSL_CTX_set_alpn_protos(ctx.get(), kHttp11, sizeof kHttp11 - 1);
    SSL_CTX_set_verify(ctx.get(), options.insecure ? SSL_VERIFY_NONE : SSL_VERIFY_PEER, nullptr);
    if (options.ca_pem.empty()) {
        SSL_CTX_set_default_verify_paths(ctx.get());
    } else {
        auto anchors = parse_certificates(options.ca_pem, "server CA bundle");
        if (!anchors) return fail(anchors.error());
        X509_STORE* store = SSL_CTX_get_cert_store(ctx.get());
        // Any certificate of the bundle is an anchor, self-signed or not, as for Go's clients.
        X509_STORE_set_flags(store, X509_V_FLAG_PARTIAL_CHAIN);
        for (const auto& anchor : *anchors) X509_STORE_add_cert(store, anchor.get());
    }
    if (!options.certificate_pem.empty() || !options.key_pem.empty()) {
        auto pair = make_certified_key(options.certificate_pem, options.key_pem);
        if (!pair) return fail(pair.error().with_context("setting the client certificate"));
        const auto& made = **pair;
        if (SSL_CTX_use_cert_and_key(ctx.get(), made.leaf.get(), made.key.get(), made.chain.get(), 1) != 1) {
            return fail(ErrorKind::Invalid, "setting the client certificate: " + take_openssl_errors());
        }
    }
    return std::unique_ptr<TlsClientContext>(new TlsClientContext(std::move(ctx), options.insecure));
}

}  // namespace k8sgpu::net
