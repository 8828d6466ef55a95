// The CertificateSigningRequest object that we post, and the test whether one we read is that very request.
// Self-approval stands on this test: whatever differs from what we asked for is left to somebody else.
// Pure; any thread.
#pragma once

#include <chrono>
#include <optional>
#include <string>

#include "common/json.h"
#include "common/result.h"
#include "csr/certificate_request.h"

namespace k8sgpu::csr {

// What we asked for, and what the server answered to the POST (uid, username: it fills them in and nobody can
// change them afterwards).
struct OwnRequest {
    std::string uid;
    std::string username;
    std::string signer;
    RequestTemplate wanted;
    std::string public_key;  // DER, of the key that only this process holds
    std::optional<std::chrono::seconds> expiration;
};

// usages: digital signature, server auth; the set that every kubelet-serving signer takes for an ECDSA key.
Json make_csr_object(const std::string& signer, const std::string& request_pem,
                     std::optional<std::chrono::seconds> expiration);

// Success only if requester, UID, signer, usages, lifetime, subject, names and public key are exactly ours.
// Invalid names the first difference.
Result<void> check_own_request(const Json& csr, const OwnRequest& own);

// `csr` with the condition Approved added; the body of PUT …/approval. The resourceVersion stays in it, so
// that the server refuses the approval of anything but the object that was checked.
Json with_approval(const Json& csr, WallTime now);

// Reason and message of a condition with status True ("" status counts too, as in early v1 objects).
struct CsrCondition {
    std::string reason;
    std::string message;
};
std::optional<CsrCondition> csr_condition(const Json& csr, std::string_view type);

}  // namespace k8sgpu::csr
