// TLS settings shared by many connections: TlsServerContext for the kubelet API, TlsClientContext for
// upgraded connections to a remote apiserver (plain requests go through libcurl).
//
// The server's certificate and the list of client CA names may be replaced at any time by any thread; each
// handshake takes what is there when its ClientHello arrives, and running connections keep theirs. Client
// certificates are asked for, never demanded, and never judged here: the handshake accepts whatever comes and
// the authenticator verifies TlsStream::peer_certificates(). A context outlives the handshakes made with it.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "net/openssl_ptr.h"

namespace k8sgpu::net {

enum class TlsVersion { Tls12, Tls13 };

struct TlsServerOptions {
    TlsVersion min_version = TlsVersion::Tls12;
    // OpenSSL cipher list for TLS 1.2, for example "ECDHE-ECDSA-AES128-GCM-SHA256:..."; empty means the
    // library's default without anonymous and export ciphers. TLS 1.3 suites are always the library's.
    std::string cipher_list;
};

class TlsServerContext {
  public:
    // Invalid when the cipher list names no known cipher.
    static Result<std::unique_ptr<TlsServerContext>> create(const TlsServerOptions& options = {});
    ~TlsServerContext();
    TlsServerContext(const TlsServerContext&) = delete;
    TlsServerContext& operator=(const TlsServerContext&) = delete;

    // Leaf first, then intermediates. Invalid (and the old one stays) when something does not parse or the
    // key is not the leaf's.
    Result<void> set_certificate(const std::string& chain_pem, const std::string& key_pem);
    // Until one is set again, handshakes fail with an alert and a warning in the log.
    void clear_certificate();
    bool has_certificate() const;

    // The subjects of these CAs are sent in the certificate request, so that a client with several
    // certificates picks the right one. Empty text: no names, which means any. Invalid keeps the old list.
    Result<void> set_client_ca(const std::string& ca_pem);

    SSL_CTX* native() const { return ctx_.get(); }

  private:
    struct Shared;
    TlsServerContext(SslCtxPtr ctx, std::unique_ptr<Shared> shared);

    std::unique_ptr<Shared> shared_;  // outlives ctx_, whose callback reads it
    SslCtxPtr ctx_;
};

struct TlsClientOptions {
    std::string ca_pem;           // empty: the system's CAs
    bool insecure = false;        // true: any server certificate will do
    std::string certificate_pem;  // client certificate chain and key; both or none
    std::string key_pem;
};

class TlsClientContext {
  public:
    static Result<std::unique_ptr<TlsClientContext>> create(const TlsClientOptions& options);

    SSL_CTX* native() const { return ctx_.get(); }
    bool insecure() const { return insecure_; }

  private:
    TlsClientContext(SslCtxPtr ctx, bool insecure) : ctx_(std::move(ctx)), insecure_(insecure) {}

    SslCtxPtr ctx_;
    bool insecure_;
};

}  // namespace k8sgpu::net
