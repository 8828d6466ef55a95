#include "tests/unit/kube/test_pki.h"

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <atomic>
#include <cstdlib>

namespace k8sgpu::kube {
namespace {

template <typename T, typename Write>
std::string to_pem(T* object, Write write) {
    BIO* bio = BIO_new(BIO_s_mem());
    write(bio, object);
    char* data = nullptr;
    const long size = BIO_get_mem_data(bio, &data);
    std::string text(data, static_cast<std::size_t>(size));
    BIO_free(bio);
    return text;
}

std::string cert_pem(X509* cert) {
    return to_pem(cert, [](BIO* bio, X509* x) { PEM_write_bio_X509(bio, x); });
}
std::string key_pem(EVP_PKEY* key) {
    return to_pem(key, [](BIO* bio, EVP_PKEY* k) {
        PEM_write_bio_PrivateKey(bio, k, nullptr, nullptr, 0, nullptr, nullptr);
    });
}

X509* new_certificate(EVP_PKEY* key, const std::string& common_name, X509* issuer) {
    static std::atomic<long> serial{1};
    X509* cert = X509_new();
    X509_set_version(cert, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(cert), serial++);
    X509_gmtime_adj(X509_getm_notBefore(cert), -60);
    X509_gmtime_adj(X509_getm_notAfter(cert), 3600);
    X509_set_pubkey(cert, key);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(cert), "CN", MBSTRING_UTF8,
                               reinterpret_cast<const unsigned char*>(common_name.c_str()), -1, -1, 0);
    X509_set_issuer_name(cert, X509_get_subject_name(issuer == nullptr ? cert : issuer));
    return cert;
}

void add_extension(X509* cert, X509* issuer, int nid, const std::string& value) {
    X509V3_CTX context;
    X509V3_set_ctx_nodb(&context);
    X509V3_set_ctx(&context, issuer, cert, nullptr, nullptr, 0);
    X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, &context, nid, value.c_str());
    if (extension == nullptr) std::abort();
    X509_add_ext(cert, extension, -1);
    X509_EXTENSION_free(extension);
}

}  // namespace

struct TestCa::Impl {
    EVP_PKEY* key = EVP_EC_gen("P-256");
    X509* cert = nullptr;
};

TestCa::TestCa(const std::string& name) : impl_(std::make_unique<Impl>()) {
    impl_->cert = new_certificate(impl_->key, name, nullptr);
    add_extension(impl_->cert, impl_->cert, NID_basic_constraints, "critical,CA:TRUE");
    add_extension(impl_->cert, impl_->cert, NID_key_usage, "critical,keyCertSign,cRLSign");
    X509_sign(impl_->cert, impl_->key, EVP_sha256());
    pem_ = cert_pem(impl_->cert);
}

TestCa::~TestCa() {
    X509_free(impl_->cert);
    EVP_PKEY_free(impl_->key);
}

TestPair TestCa::issue(const std::string& common_name, const std::vector<std::string>& names) const {
    EVP_PKEY* key = EVP_EC_gen("P-256");
    X509* cert = new_certificate(key, common_name, impl_->cert);
    std::string list;
    for (const std::string& name : names) list += (list.empty() ? "" : ",") + name;
    if (!list.empty()) add_extension(cert, impl_->cert, NID_subject_alt_name, list);
    X509_sign(cert, impl_->key, EVP_sha256());
    TestPair pair{cert_pem(cert), key_pem(key)};
    X509_free(cert);
    EVP_PKEY_free(key);
    return pair;
}

}  // namespace k8sgpu::kube
