#include "csr/key_pair.h"

#include <openssl/ec.h>
#include <openssl/pem.h>

namespace k8sgpu::csr {

Result<KeyPair> KeyPair::generate() {
    net::EvpPkeyPtr key(EVP_EC_gen("P-256"));
    if (!key) return fail(ErrorKind::Internal, "generating a private key: " + net::take_openssl_errors());
    return KeyPair(std::move(key));
}

Result<KeyPair> KeyPair::from_pem(std::string_view text) {
    auto key = net::parse_private_key(text, "private key");
    if (!key) return fail(key.error());
    return KeyPair(std::move(*key));
}

std::string KeyPair::pem() const {
    // Memory that is wiped when freed.
    const net::BioPtr bio(BIO_new(BIO_s_secmem()));
    if (!bio ||
        PEM_write_bio_PKCS8PrivateKey(bio.get(), key_.get(), nullptr, nullptr, 0, nullptr, nullptr) != 1)
        return {};
    return bio_text(*bio);
}

std::string KeyPair::public_key() const {
    return public_key_der(*key_);
}

std::string bio_text(BIO& bio) {
    char* data = nullptr;
    const long size = BIO_get_mem_data(&bio, &data);
    return size > 0 ? std::string(data, static_cast<std::size_t>(size)) : std::string();
}

std::string public_key_der(EVP_PKEY& key) {
    unsigned char* der = nullptr;
    const int size = i2d_PUBKEY(&key, &der);
    if (size <= 0) return {};
    std::string out(reinterpret_cast<const char*>(der), static_cast<std::size_t>(size));
    OPENSSL_free(der);
    return out;
}

}  // namespace k8sgpu::csr
