#include "kube/internal/pem.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include <memory>

namespace k8sgpu::kube {
namespace {

using Bio = std::unique_ptr<BIO, decltype(&BIO_free)>;
using Certificate = std::unique_ptr<X509, decltype(&X509_free)>;
using Key = std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)>;

Bio open(const std::string& text) {
    return {BIO_new_mem_buf(text.data(), static_cast<int>(text.size())), &BIO_free};
}

Certificate next_certificate(BIO* bio) {
    return {PEM_read_bio_X509(bio, nullptr, nullptr, nullptr), &X509_free};
}

// Never ask a terminal for a passphrase.
int no_passphrase(char* /*buffer*/, int /*size*/, int /*writing*/, void* asked) {
    *static_cast<bool*>(asked) = true;
    return -1;
}

}  // namespace

Result<void> check_certificates(const std::string& pem) {
    ERR_clear_error();
    const Bio bio = open(pem);
    int count = 0;
    while (next_certificate(bio.get())) ++count;
    const unsigned long error = ERR_peek_last_error();
    ERR_clear_error();
    if (ERR_GET_REASON(error) != PEM_R_NO_START_LINE)
        return fail(ErrorKind::Invalid, "certificate " + std::to_string(count + 1) + " is broken");
    if (count == 0) return fail(ErrorKind::Invalid, "no certificate in PEM form found");
    return {};
}

Result<void> check_key_pair(const std::string& cert_pem, const std::string& key_pem) {
    if (auto certs = check_certificates(cert_pem); !certs) return certs;
    const Bio cert_bio = open(cert_pem);
    const Certificate cert = next_certificate(cert_bio.get());
    const Bio key_bio = open(key_pem);
    bool asked = false;
    const Key key(PEM_read_bio_PrivateKey(key_bio.get(), nullptr, &no_passphrase, &asked), &EVP_PKEY_free);
    const bool matches = key != nullptr && X509_check_private_key(cert.get(), key.get()) == 1;
    ERR_clear_error();
    if (asked)
        return fail(ErrorKind::Invalid, "the private key is encrypted; only unencrypted keys can be used");
    if (key == nullptr) return fail(ErrorKind::Invalid, "no private key in PEM form found");
    if (!matches) return fail(ErrorKind::Invalid, "the private key does not belong to the certificate");
    return {};
}

}  // namespace k8sgpu::kube
