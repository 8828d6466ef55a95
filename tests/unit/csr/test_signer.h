// A certificate authority for tests: signs requests as a cluster's signer would, with whatever dates and
// flaws a test needs.
#pragma once

#include <openssl/ec.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <chrono>
#include <cstdlib>
#include <string>

#include "common/clock.h"
#include "csr/certificate_request.h"
#include "csr/key_pair.h"
#include "net/openssl_ptr.h"

namespace k8sgpu::csr {

class TestSigner {
  public:
    TestSigner() : key_(*KeyPair::generate()) {}

    struct Wish {
        WallTime not_before;
        WallTime not_after;
        bool without_names = false;
        const KeyPair* other_key = nullptr;  // certify this key instead of the request's
    };

    // PEM of a certificate for `request_pem`.
    std::string sign(const std::string& request_pem, const Wish& wish) const {
        const net::BioPtr in(BIO_new_mem_buf(request_pem.data(), static_cast<int>(request_pem.size())));
        X509_REQ* request = PEM_read_bio_X509_REQ(in.get(), nullptr, nullptr, nullptr);
        if (request == nullptr) std::abort();
        const net::X509Ptr certificate(X509_new());
        X509* x = certificate.get();
        X509_set_version(x, X509_VERSION_3);
        ASN1_INTEGER_set(X509_get_serialNumber(x), 7);
        set_time(X509_getm_notBefore(x), wish.not_before);
        set_time(X509_getm_notAfter(x), wish.not_after);
        X509_set_subject_name(x, X509_REQ_get_subject_name(request));
        X509_NAME_add_entry_by_txt(X509_get_issuer_name(x), "CN", MBSTRING_ASC,
                                   reinterpret_cast<const unsigned char*>("test-ca"), -1, -1, 0);
        X509_set_pubkey(x,
                        wish.other_key != nullptr ? wish.other_key->handle() : X509_REQ_get0_pubkey(request));
        if (!wish.without_names) {
            STACK_OF(X509_EXTENSION)* extensions = X509_REQ_get_extensions(request);
            for (int i = 0; i < sk_X509_EXTENSION_num(extensions); ++i)
                X509_add_ext(x, sk_X509_EXTENSION_value(extensions, i), -1);
            sk_X509_EXTENSION_pop_free(extensions, X509_EXTENSION_free);
        }
        X509_sign(x, key_.handle(), EVP_sha256());
        X509_REQ_free(request);
        return net::certificate_pem(*x);
    }

  private:
    static void set_time(ASN1_TIME* time, WallTime at) {
        ASN1_TIME_set(time, std::chrono::system_clock::to_time_t(at));
    }
    KeyPair key_;
};

}  // namespace k8sgpu::csr
