// A certificate authority for tests of TLS and client certificates.
#pragma once

#include <openssl/ec.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <chrono>
#include <string>
#include <vector>

#include "common/clock.h"
#include "net/openssl_ptr.h"

namespace k8sgpu::kubelet_api {

struct TestIdentity {
    std::string certificate_pem;
    std::string key_pem;
    std::string der;
};

class TestCa {
  public:
    struct Subject {
        std::string common_name;
        std::vector<std::string> organizations = {};
        std::string usage = "clientAuth";  // "" = no extended key usage
        std::string names = "";            // "IP:127.0.0.1"
        WallTime not_before = std::chrono::system_clock::now() - std::chrono::hours(1);
        WallTime not_after = std::chrono::system_clock::now() + std::chrono::hours(1);
    };

    explicit TestCa(const std::string& name = "test-ca") : name_(name), key_(EVP_EC_gen("P-256")) {
        // Valid at a FakeClock's time, too.
        const WallTime always(std::chrono::hours(24)), never = always + std::chrono::hours(24 * 365 * 100);
        certificate_ = make({name, {}, "", "", always, never}, *key_, /*authority=*/true);
    }

    std::string pem() const { return net::certificate_pem(*certificate_); }

    TestIdentity issue(const Subject& subject) const {
        const net::EvpPkeyPtr key(EVP_EC_gen("P-256"));
        const net::X509Ptr certificate = make(subject, *key, /*authority=*/false);
        TestIdentity out;
        out.certificate_pem = net::certificate_pem(*certificate);
        const net::BioPtr bio(BIO_new(BIO_s_mem()));
        PEM_write_bio_PrivateKey(bio.get(), key.get(), nullptr, nullptr, 0, nullptr, nullptr);
        char* data = nullptr;
        const long size = BIO_get_mem_data(bio.get(), &data);
        out.key_pem.assign(data, static_cast<std::size_t>(size));
        unsigned char* der = nullptr;
        const int length = i2d_X509(certificate.get(), &der);
        out.der.assign(reinterpret_cast<char*>(der), static_cast<std::size_t>(length));
        OPENSSL_free(der);
        return out;
    }

  private:
    static void add_entry(X509_NAME* name, const char* field, const std::string& value) {
        X509_NAME_add_entry_by_txt(name, field, MBSTRING_UTF8,
                                   reinterpret_cast<const unsigned char*>(value.c_str()), -1, -1, 0);
    }
    static void add_extension(X509* x, int nid, const std::string& value) {
        X509V3_CTX context;
        X509V3_set_ctx_nodb(&context);
        X509V3_set_ctx(&context, x, x, nullptr, nullptr, 0);
        X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, &context, nid, value.c_str());
        X509_add_ext(x, extension, -1);
        X509_EXTENSION_free(extension);
    }
    net::X509Ptr make(const Subject& subject, EVP_PKEY& key, bool authority) const {
        static int serial = 1;
        net::X509Ptr certificate(X509_new());
        X509* x = certificate.get();
        X509_set_version(x, X509_VERSION_3);
        ASN1_INTEGER_set(X509_get_serialNumber(x), serial++);
        ASN1_TIME_set(X509_getm_notBefore(x), std::chrono::system_clock::to_time_t(subject.not_before));
        ASN1_TIME_set(X509_getm_notAfter(x), std::chrono::system_clock::to_time_t(subject.not_after));
        for (const std::string& o : subject.organizations) add_entry(X509_get_subject_name(x), "O", o);
        if (!subject.common_name.empty()) add_entry(X509_get_subject_name(x), "CN", subject.common_name);
        add_entry(X509_get_issuer_name(x), "CN", name_);
        X509_set_pubkey(x, &key);
        add_extension(x, NID_basic_constraints, authority ? "critical,CA:TRUE" : "critical,CA:FALSE");
        if (!subject.usage.empty()) add_extension(x, NID_ext_key_usage, subject.usage);
        if (!subject.names.empty()) add_extension(x, NID_subject_alt_name, subject.names);
        X509_sign(x, key_.get(), EVP_sha256());
        return certificate;
    }

    std::string name_;
    net::EvpPkeyPtr key_;
    net::X509Ptr certificate_;
};

}  // namespace k8sgpu::kubelet_api
