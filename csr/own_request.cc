#include "csr/own_request.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "common/encoding.h"

namespace k8sgpu::csr {

namespace {

const std::set<std::string> kUsages = {"digital signature", "server auth"};

Result<void> differs(std::string_view field, std::string_view found, std::string_view expected) {
    return fail(ErrorKind::Invalid, fmt::format("{} is \"{}\", ours is \"{}\"", field, found, expected));
}

Result<void> check_object(const Json& csr, const OwnRequest& own) {
    const std::string uid = string_at(csr, {"metadata", "uid"});
    if (own.uid.empty() || uid != own.uid) return differs("metadata.uid", uid, own.uid);
    const std::string username = string_at(csr, {"spec", "username"});
    if (own.username.empty() || username != own.username)
        return differs("spec.username", username, own.username);
    const std::string signer = string_at(csr, {"spec", "signerName"});
    if (signer != own.signer) return differs("spec.signerName", signer, own.signer);
    std::multiset<std::string> usages;
    for (const Json& usage : array_at(csr, {"spec", "usages"})) {
        usages.insert(usage.is_string() ? usage.get<std::string>() : usage.dump());
    }
    if (!std::equal(usages.begin(), usages.end(), kUsages.begin(), kUsages.end()))
        return differs("spec.usages", fmt::format("{}", fmt::join(usages, ", ")),
                       fmt::format("{}", fmt::join(kUsages, ", ")));
    const std::int64_t expiration = int_at(csr, {"spec", "expirationSeconds"}, -1);
    const std::int64_t wanted = own.expiration ? own.expiration->count() : -1;
    if (expiration != wanted)
        return differs("spec.expirationSeconds", std::to_string(expiration), std::to_string(wanted));
    return {};
}

Result<void> check_request(const Json& csr, const OwnRequest& own) {
    const auto pem = base64_decode(string_at(csr, {"spec", "request"}));
    if (!pem) return fail(pem.error().with_context("spec.request"));
    const auto info = parse_request(*pem);
    if (!info) return fail(info.error().with_context("spec.request"));
    if (info->common_name != own.wanted.common_name)
        return differs("the request's CN", info->common_name, own.wanted.common_name);
    if (info->organizations != std::vector{own.wanted.organization})
        return differs("the request's O", fmt::format("{}", fmt::join(info->organizations, ", ")),
                       own.wanted.organization);
    if (info->other_subject_fields != 0)
        return fail(ErrorKind::Invalid, "the request's subject has fields that ours has not");
    const auto listed = [](const SubjectNames& names) {
        return fmt::format("{} {}", fmt::join(names.dns, " "), fmt::join(names.ips, " "));
    };
    if (info->names != own.wanted.names)
        return differs("the request's set of names", listed(info->names), listed(own.wanted.names));
    if (info->other_names != 0)
        return fail(ErrorKind::Invalid, "the request asks for names that are neither DNS nor IP");
    if (own.public_key.empty() || info->public_key != own.public_key)
        return fail(ErrorKind::Invalid, "the request's public key is not ours");
    return {};
}

}  // namespace

Json make_csr_object(const std::string& signer, const std::string& request_pem,
                     std::optional<std::chrono::seconds> expiration) {
    Json csr = {
        {"apiVersion", "certificates.k8s.io/v1"},
        {"kind", "CertificateSigningRequest"},
        {"metadata", {{"generateName", "csr-"}}},
        {"spec", {{"request", base64_encode(request_pem)}, {"signerName", signer}, {"usages", kUsages}}}};
    if (expiration) csr["spec"]["expirationSeconds"] = expiration->count();
    return csr;
}

Result<void> check_own_request(const Json& csr, const OwnRequest& own) {
    if (auto same = check_object(csr, own); !same) return same;
    return check_request(csr, own);
}

Json with_approval(const Json& csr, WallTime now) {
    Json out = csr;
    const std::string stamp = rfc3339_seconds(now);
    Json& status = out["status"];
    if (!status.is_object()) status = Json::object();
    Json& conditions = status["conditions"];
    if (!conditions.is_array()) conditions = Json::array();
    conditions.push_back({{"type", "Approved"},
                          {"status", "True"},
                          {"reason", "SelfApproved"},
                          {"message", "the requester verified that this is its own request, unchanged"},
                          {"lastUpdateTime", stamp},
                          {"lastTransitionTime", stamp}});
    return out;
}

std::optional<CsrCondition> csr_condition(const Json& csr, std::string_view type) {
    for (const Json& condition : array_at(csr, {"status", "conditions"})) {
        if (string_at(condition, {"type"}) != type) continue;
        if (string_at(condition, {"status"}, "True") == "False") continue;
        return CsrCondition{string_at(condition, {"reason"}), string_at(condition, {"message"})};
    }
    return std::nullopt;
}

}  // namespace k8sgpu::csr
