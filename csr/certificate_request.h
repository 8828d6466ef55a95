// The PKCS#10 request for a node's serving certificate, and what both it and the certificate that comes back
// say about their subject. Signer rules: kubernetes.io/kubelet-serving (CN system:node:<node>, one O
// system:nodes, at least one DNS or IP SAN, no e-mail, no URI).
// Pure; any thread.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "common/clock.h"
#include "common/result.h"
#include "csr/key_pair.h"

namespace k8sgpu::csr {

// Names that a serving certificate must cover: sorted and without repeats once normalised.
struct SubjectNames {
    std::vector<std::string> dns;
    std::vector<std::string> ips;  // text as inet_ntop writes it

    bool operator==(const SubjectNames&) const = default;
    bool empty() const { return dns.empty() && ips.empty(); }
    // True when every name of `other` is among these.
    bool covers(const SubjectNames& other) const;
};

// From node addresses: sorts, drops repeats and empty names, moves DNS entries that are IP addresses to `ips`
// and writes addresses canonically. Invalid names the entry that is neither.
Result<SubjectNames> normalise(const SubjectNames& names);

struct RequestTemplate {
    std::string common_name;
    std::string organization;
    SubjectNames names;  // normalised

    bool operator==(const RequestTemplate&) const = default;
};

// CN system:node:<node_name>, O system:nodes.
RequestTemplate node_template(std::string_view node_name, SubjectNames names);

// A PEM "CERTIFICATE REQUEST", signed with ECDSA-SHA256.
Result<std::string> make_request(const RequestTemplate& wanted, const KeyPair& key);

// What a request or certificate says.
struct SubjectInfo {
    std::string common_name;
    std::vector<std::string> organizations;
    int other_subject_fields = 0;  // subject entries that are neither CN nor O, and further CNs
    SubjectNames names;            // normalised
    int other_names = 0;           // SANs that are neither DNS nor IP: e-mail, URI, …
    std::string public_key;        // SubjectPublicKeyInfo, DER
};

// Fails with Invalid when it is not one PEM request or when its self-signature does not verify.
Result<SubjectInfo> parse_request(std::string_view pem);

struct CertificateInfo {
    SubjectInfo subject;
    WallTime not_before;
    WallTime not_after;
    std::string chain_pem;  // the certificates alone, leaf first, in the order given

    // True when every name of `wanted` is in it. Its subject is the signer's business: only names and key
    // matter to those who verify it.
    bool covers(const SubjectNames& wanted) const { return subject.names.covers(wanted); }
};

// The first certificate in `pem` and the chain behind it; other blocks (a key) are skipped. Invalid when
// there is none or one does not parse.
Result<CertificateInfo> parse_certificates(std::string_view pem);

}  // namespace k8sgpu::csr
