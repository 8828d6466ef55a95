#include "csr/certificate_request.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <ctime>

#include "common/encoding.h"

namespace k8sgpu::csr {

namespace {

using RequestPtr = std::unique_ptr<X509_REQ, net::OpensslDelete<X509_REQ_free>>;

Error openssl_error(ErrorKind kind, std::string_view doing) {
    return Error{kind, fmt::format("{}: {}", doing, net::take_openssl_errors()), {}, {}};
}

using NamesPtr = std::unique_ptr<GENERAL_NAMES, decltype(&GENERAL_NAMES_free)>;

// "" when `text` is not an address.
std::string canonical_ip(const std::string& text) {
    unsigned char bytes[16];
    char out[INET6_ADDRSTRLEN];
    for (const int family : {AF_INET, AF_INET6}) {
        if (inet_pton(family, text.c_str(), bytes) == 1) return inet_ntop(family, bytes, out, sizeof out);
    }
    return {};
}

bool is_dns_name(const std::string& name) {
    const auto fits = [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
               c == '.' || c == '_';
    };
    return name.size() <= 253 && std::all_of(name.begin(), name.end(), fits);
}

void sort_unique(std::vector<std::string>& names) {
    std::sort(names.begin(), names.end());
    names.erase(std::unique(names.begin(), names.end()), names.end());
}

bool add_entry(X509_NAME& name, int nid, const std::string& value) {
    const auto* bytes = reinterpret_cast<const unsigned char*>(value.data());
    // A fixed string type, because OpenSSL checks X.520's 64 characters for MBSTRING types; node names are
    // longer.
    return X509_NAME_add_entry_by_NID(&name, nid, V_ASN1_UTF8STRING, bytes, static_cast<int>(value.size()),
                                      -1, 0) == 1;
}

bool push_name(GENERAL_NAMES& list, int type, const std::string& value) {
    GENERAL_NAME* name = type == GEN_IPADD
                             ? a2i_GENERAL_NAME(nullptr, nullptr, nullptr, GEN_IPADD, value.c_str(), 0)
                             : a2i_GENERAL_NAME(nullptr, nullptr, nullptr, GEN_DNS, value.c_str(), 0);
    if (name == nullptr) return false;
    if (sk_GENERAL_NAME_push(&list, name) > 0) return true;
    GENERAL_NAME_free(name);
    return false;
}

bool add_names(X509_REQ& request, const SubjectNames& names) {
    const NamesPtr list(GENERAL_NAMES_new(), GENERAL_NAMES_free);
    if (!list) return false;
    for (const std::string& dns : names.dns) {
        if (!push_name(*list, GEN_DNS, dns)) return false;
    }
    for (const std::string& ip : names.ips) {
        if (!push_name(*list, GEN_IPADD, ip)) return false;
    }
    STACK_OF(X509_EXTENSION)* extensions = nullptr;
    bool ok = X509V3_add1_i2d(&extensions, NID_subject_alt_name, list.get(), 0, X509V3_ADD_DEFAULT) == 1;
    ok = ok && X509_REQ_add_extensions(&request, extensions) == 1;
    sk_X509_EXTENSION_pop_free(extensions, X509_EXTENSION_free);
    return ok;
}

std::string utf8(const ASN1_STRING* text) {
    unsigned char* bytes = nullptr;
    const int size = ASN1_STRING_to_UTF8(&bytes, text);
    if (size < 0) return {};
    std::string out(reinterpret_cast<const char*>(bytes), static_cast<std::size_t>(size));
    OPENSSL_free(bytes);
    return out;
}

void read_subject(const X509_NAME& name, SubjectInfo& info) {
    bool have_common_name = false;
    for (int i = 0; i < X509_NAME_entry_count(&name); ++i) {
        const X509_NAME_ENTRY* entry = X509_NAME_get_entry(&name, i);
        const int nid = OBJ_obj2nid(X509_NAME_ENTRY_get_object(entry));
        std::string value = utf8(X509_NAME_ENTRY_get_data(entry));
        if (nid == NID_commonName && !have_common_name) {
            info.common_name = std::move(value);
            have_common_name = true;
        } else if (nid == NID_organizationName) {
            info.organizations.push_back(std::move(value));
        } else {
            ++info.other_subject_fields;
        }
    }
}

void read_names(const GENERAL_NAMES& list, SubjectInfo& info) {
    for (int i = 0; i < sk_GENERAL_NAME_num(&list); ++i) {
        const GENERAL_NAME* name = sk_GENERAL_NAME_value(&list, i);
        if (name->type == GEN_DNS) {
            const ASN1_STRING* text = name->d.dNSName;
            info.names.dns.emplace_back(reinterpret_cast<const char*>(ASN1_STRING_get0_data(text)),
                                        static_cast<std::size_t>(ASN1_STRING_length(text)));
        } else if (name->type == GEN_IPADD) {
            const ASN1_STRING* bytes = name->d.iPAddress;
            const int family = ASN1_STRING_length(bytes) == 4 ? AF_INET : AF_INET6;
            char out[INET6_ADDRSTRLEN];
            const int expected = family == AF_INET ? 4 : 16;
            if (ASN1_STRING_length(bytes) == expected &&
                inet_ntop(family, ASN1_STRING_get0_data(bytes), out, sizeof out) != nullptr) {
                info.names.ips.emplace_back(out);
            } else {
                ++info.other_names;
            }
        } else {
            ++info.other_names;
        }
    }
    sort_unique(info.names.dns);
    sort_unique(info.names.ips);
}

Result<WallTime> wall_time(const ASN1_TIME* time) {
    std::tm broken{};
    if (ASN1_TIME_to_tm(time, &broken) != 1)
        return fail(openssl_error(ErrorKind::Invalid, "reading a certificate's validity"));
    // By way of text: a certificate may be good until the year 9999, and that reader knows what to make of
    // it.
    const auto read = parse_rfc3339(fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z", broken.tm_year + 1900,
                                                broken.tm_mon + 1, broken.tm_mday, broken.tm_hour,
                                                broken.tm_min, broken.tm_sec));
    if (!read) return fail(ErrorKind::Invalid, "a certificate's validity is no date");
    return *read;
}

}  // namespace

bool SubjectNames::covers(const SubjectNames& other) const {
    return std::includes(dns.begin(), dns.end(), other.dns.begin(), other.dns.end()) &&
           std::includes(ips.begin(), ips.end(), other.ips.begin(), other.ips.end());
}

Result<SubjectNames> normalise(const SubjectNames& names) {
    SubjectNames out;
    for (const std::string& dns : names.dns) {
        if (dns.empty()) continue;
        std::string ip = canonical_ip(dns);
        if (!ip.empty()) {
            out.ips.push_back(std::move(ip));
        } else if (is_dns_name(dns)) {
            out.dns.push_back(dns);
        } else {
            return fail(ErrorKind::Invalid, fmt::format("node address \"{}\" is not a DNS name", dns));
        }
    }
    for (const std::string& text : names.ips) {
        if (text.empty()) continue;
        std::string ip = canonical_ip(text);
        if (ip.empty())
            return fail(ErrorKind::Invalid, fmt::format("node address \"{}\" is not an IP address", text));
        out.ips.push_back(std::move(ip));
    }
    sort_unique(out.dns);
    sort_unique(out.ips);
    return out;
}

RequestTemplate node_template(std::string_view node_name, SubjectNames names) {
    return {fmt::format("system:node:{}", node_name), "system:nodes", std::move(names)};
}

Result<std::string> make_request(const RequestTemplate& wanted, const KeyPair& key) {
    const RequestPtr request(X509_REQ_new());
    const net::BioPtr bio(BIO_new(BIO_s_mem()));
    X509_NAME* subject = request ? X509_REQ_get_subject_name(request.get()) : nullptr;
    const bool made = subject != nullptr && bio &&
                      X509_REQ_set_version(request.get(), X509_REQ_VERSION_1) == 1 &&
                      add_entry(*subject, NID_organizationName, wanted.organization) &&
                      add_entry(*subject, NID_commonName, wanted.common_name) &&
                      (wanted.names.empty() || add_names(*request, wanted.names)) &&
                      X509_REQ_set_pubkey(request.get(), key.handle()) == 1 &&
                      X509_REQ_sign(request.get(), key.handle(), EVP_sha256()) > 0 &&
                      PEM_write_bio_X509_REQ(bio.get(), request.get()) == 1;
    if (!made) return fail(openssl_error(ErrorKind::Internal, "making a certificate request"));
    return bio_text(*bio);
}

Result<SubjectInfo> parse_request(std::string_view pem) {
    const net::BioPtr bio(
        BIO_new_mem_buf(pem.data(), static_cast<int>(std::min<std::size_t>(pem.size(), 1U << 20U))));
    const RequestPtr request(PEM_read_bio_X509_REQ(bio.get(), nullptr, nullptr, nullptr));
    if (!request) return fail(openssl_error(ErrorKind::Invalid, "reading a certificate request"));
    EVP_PKEY* key = X509_REQ_get0_pubkey(request.get());
    if (key == nullptr || X509_REQ_verify(request.get(), key) != 1)
        return fail(openssl_error(ErrorKind::Invalid, "verifying a certificate request's own signature"));

    SubjectInfo info;
    info.public_key = public_key_der(*key);
    read_subject(*X509_REQ_get_subject_name(request.get()), info);
    STACK_OF(X509_EXTENSION)* extensions = X509_REQ_get_extensions(request.get());
    const NamesPtr names(
        static_cast<GENERAL_NAMES*>(X509V3_get_d2i(extensions, NID_subject_alt_name, nullptr, nullptr)),
        GENERAL_NAMES_free);
    if (names) read_names(*names, info);
    sk_X509_EXTENSION_pop_free(extensions, X509_EXTENSION_free);
    return info;
}

Result<CertificateInfo> parse_certificates(std::string_view pem) {
    const auto chain = net::parse_certificates(pem, "certificate");
    if (!chain) return fail(chain.error());
    CertificateInfo info;
    for (const net::X509Ptr& certificate : *chain) info.chain_pem += net::certificate_pem(*certificate);

    const X509* leaf = chain->front().get();
    EVP_PKEY* key = X509_get0_pubkey(leaf);
    if (key == nullptr) return fail(openssl_error(ErrorKind::Invalid, "reading a certificate's key"));
    info.subject.public_key = public_key_der(*key);
    read_subject(*X509_get_subject_name(leaf), info.subject);
    const NamesPtr names(
        static_cast<GENERAL_NAMES*>(X509_get_ext_d2i(leaf, NID_subject_alt_name, nullptr, nullptr)),
        GENERAL_NAMES_free);
    if (names) read_names(*names, info.subject);
    const auto not_before = wall_time(X509_get0_notBefore(leaf));
    if (!not_before) return fail(not_before.error());
    const auto not_after = wall_time(X509_get0_notAfter(leaf));
    if (!not_after) return fail(not_after.error());
    info.not_before = *not_before;
    info.not_after = *not_after;
    return info;
}

}  // namespace k8sgpu::csr
