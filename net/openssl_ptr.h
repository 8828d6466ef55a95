// Owning pointers for OpenSSL objects, and its error queue as text. Plain values; any thread.
#pragma once

#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "common/result.h"

namespace k8sgpu::net {

template <auto Free>
struct OpensslDelete {
    template <typename T>
    void operator()(T* p) const {
        Free(p);
    }
};

using X509Ptr = std::unique_ptr<X509, OpensslDelete<X509_free>>;
using EvpPkeyPtr = std::unique_ptr<EVP_PKEY, OpensslDelete<EVP_PKEY_free>>;
using BioPtr = std::unique_ptr<BIO, OpensslDelete<BIO_free_all>>;
using SslPtr = std::unique_ptr<SSL, OpensslDelete<SSL_free>>;
using SslCtxPtr = std::unique_ptr<SSL_CTX, OpensslDelete<SSL_CTX_free>>;
using X509StorePtr = std::unique_ptr<X509_STORE, OpensslDelete<X509_STORE_free>>;

// Empties this thread's OpenSSL error queue; "unknown error" when it is empty.
std::string take_openssl_errors();

// Every CERTIFICATE block of `pem`, in order; other blocks are skipped. Invalid when there is none or one
// does not parse; `what` names the text in the message.
Result<std::vector<X509Ptr>> parse_certificates(std::string_view pem, std::string_view what);
// An unencrypted private key. Invalid otherwise; the message never shows key material.
Result<EvpPkeyPtr> parse_private_key(std::string_view pem, std::string_view what);
std::string certificate_pem(const X509& certificate);

}  // namespace k8sgpu::net
