// Throw-away certificates for the TLS tests.
#pragma once

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <string>

#include "net/openssl_ptr.h"

namespace k8sgpu::net::test {

struct KeyAndCertificate {
    EvpPkeyPtr key;
    X509Ptr certificate;
    std::string key_pem;
    std::string certificate_pem;
};

inline void add_extension(X509* certificate, X509* issuer, int nid, const char* value) {
    X509V3_CTX ctx;
    X509V3_set_ctx(&ctx, issuer, certificate, nullptr, nullptr, 0);
    X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, &ctx, nid, value);
    X509_add_ext(certificate, extension, -1);
    X509_EXTENSION_free(extension);
}

// Self-signed without `issuer`. `san` as in openssl.cnf: "DNS:localhost,IP:127.0.0.1"; empty makes a CA.
inline KeyAndCertificate make_certificate(const std::string& common_name, const std::string& san,
                                          const KeyAndCertificate* issuer = nullptr) {
    KeyAndCertificate made;
    made.key.reset(EVP_EC_gen("P-256"));
    made.certificate.reset(X509_new());
    X509* x = made.certificate.get();
    X509_set_version(x, 2);
    static long serial = 1;
    ASN1_INTEGER_set(X509_get_serialNumber(x), serial++);
    X509_gmtime_adj(X509_getm_notBefore(x), -60);
    X509_gmtime_adj(X509_getm_notAfter(x), 3600);
    X509_set_pubkey(x, made.key.get());
    X509_NAME* name = X509_get_subject_name(x);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC,
                               reinterpret_cast<const unsigned char*>(common_name.c_str()), -1, -1, 0);
    X509* signer = issuer != nullptr ? issuer->certificate.get() : x;
    X509_set_issuer_name(x, X509_get_subject_name(signer));
    if (san.empty()) {
        add_extension(x, signer, NID_basic_constraints, "critical,CA:TRUE");
    } else {
        add_extension(x, signer, NID_subject_alt_name, san.c_str());
    }
    X509_sign(x, issuer != nullptr ? issuer->key.get() : made.key.get(), EVP_sha256());
    const BioPtr bio(BIO_new(BIO_s_mem()));
    PEM_write_bio_PrivateKey(bio.get(), made.key.get(), nullptr, nullptr, 0, nullptr, nullptr);
    char* data = nullptr;
    const auto size = BIO_get_mem_data(bio.get(), &data);
    made.key_pem.assign(data, static_cast<std::size_t>(size));
    made.certificate_pem = certificate_pem(*x);
    return made;
}

inline std::string common_name(const X509& certificate) {
    char text[256] = {};
    X509_NAME_get_text_by_NID(X509_get_subject_name(&certificate), NID_commonName, text, sizeof text);
    return text;
}

}  // namespace k8sgpu::net::test
