// A private key for one certificate: ECDSA on P-256, as the kubelet's. The key text leaves this class only
// through pem(), for the store and the TLS context; it is never logged.
//
// Immutable after construction; copies share the key. Any thread.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "net/openssl_ptr.h"

namespace k8sgpu::csr {

class KeyPair {
  public:
    static Result<KeyPair> generate();
    // The first private key in `text`, other PEM blocks around it are fine. Invalid otherwise; an encrypted
    // key is Invalid too.
    static Result<KeyPair> from_pem(std::string_view text);

    // PKCS#8, unencrypted.
    std::string pem() const;
    // SubjectPublicKeyInfo, DER: equal for equal keys.
    std::string public_key() const;

    EVP_PKEY* handle() const { return key_.get(); }

  private:
    explicit KeyPair(net::EvpPkeyPtr key) : key_(std::move(key)) {}
    std::shared_ptr<EVP_PKEY> key_;
};

// SubjectPublicKeyInfo, DER; "" when the key has no such form.
std::string public_key_der(EVP_PKEY& key);
// What was written to a memory BIO.
std::string bio_text(BIO& bio);

}  // namespace k8sgpu::csr
