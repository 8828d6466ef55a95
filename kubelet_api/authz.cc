#include "kubelet_api/authz.h"

#include <fmt/format.h>

#include <algorithm>

#include "common/json.h"
#include "common/log.h"
#include "kubelet_api/review_retry.h"
#include "kubelet_api/ttl_cache.h"

namespace k8sgpu::kubelet_api {

AccessAttributes access_attributes(std::string_view method, std::string_view path) {
    AccessAttributes out;
    if (method == "POST") out.verb = "create";
    if (method == "GET") out.verb = "get";
    if (method == "PUT") out.verb = "update";
    if (method == "PATCH") out.verb = "patch";
    if (method == "DELETE") out.verb = "delete";

    if (path.starts_with('/')) path.remove_prefix(1);
    const std::string_view root = path.substr(0, path.find('/'));
    if (root == "stats" || root == "metrics" || root == "checkpoint" || root == "statusz") {
        out.subresources = {std::string(root)};
    } else if (root == "logs") {
        out.subresources = {"log"};
    } else if (root == "flagz") {
        out.subresources = {"configz"};
    } else if (root == "pods" || root == "runningpods") {
        out.subresources = {"pods", "proxy"};
    } else if (root == "healthz" || root == "configz") {
        out.subresources = {std::string(root), "proxy"};
    } else {
        out.subresources = {"proxy"};
    }
    return out;
}

struct SarAuthorizer::Impl {
    Clock& clock;
    kube::ApiClient& client;
    SarAuthorizerOptions options;
    TtlCache<bool> answers;

    Json spec_of(const User& user, const std::string& verb, const std::string& subresource) const {
        Json spec = {{"user", user.name},
                     {"groups", user.groups},
                     {"resourceAttributes",
                      {{"verb", verb},
                       {"version", "v1"},
                       {"resource", "nodes"},
                       {"subresource", subresource},
                       {"name", options.node_name}}}};
        if (!user.uid.empty()) spec["uid"] = user.uid;
        if (!user.extra.empty()) spec["extra"] = user.extra;
        return spec;
    }

    Result<bool> allowed(const User& user, const std::string& verb, const std::string& subresource,
                         const CallContext& ctx) {
        const Json spec = spec_of(user, verb, subresource);
        const std::string key = dump_json(spec);
        if (const auto known = answers.get(key, clock.now())) return *known;
        const Json review = {
            {"apiVersion", "authorization.k8s.io/v1"}, {"kind", "SubjectAccessReview"}, {"spec", spec}};
        auto answer = create_review(client, kube::resources::kSubjectAccessReviews, review, options.retry,
                                    options.attempts, ctx);
        if (!answer) return fail(answer.error());
        // "denied" cannot come together with "allowed", but if it did, it would win.
        const bool yes = bool_at(*answer, {"status", "allowed"}) && !bool_at(*answer, {"status", "denied"});
        if (key.size() <= options.max_cached_spec_bytes)
            answers.put(key, yes, clock.now() + (yes ? options.allowed_ttl : options.denied_ttl));
        return yes;
    }
};

SarAuthorizer::SarAuthorizer(Clock& clock, kube::ApiClient& client, SarAuthorizerOptions options)
    : impl_(new Impl{clock, client, options, TtlCache<bool>(options.cache_entries)}) {}

SarAuthorizer::~SarAuthorizer() = default;

Result<void> SarAuthorizer::authorize(const User& user, const AccessAttributes& attributes,
                                      const CallContext& ctx) {
    for (const std::string& subresource : attributes.subresources) {
        const auto answer = impl_->allowed(user, attributes.verb, subresource, ctx);
        if (!answer) {
            log().warn("subject access review for {} on nodes/{}: {}", user.name, subresource,
                       answer.error().message);
            return fail(ErrorKind::Unavailable,
                        fmt::format("Authorization error (user={}, verb={}, resource=nodes, subresource={})",
                                    user.name, attributes.verb, subresource));
        }
        if (*answer) return {};
    }
    return fail(ErrorKind::Forbidden,
                fmt::format("Forbidden (user={}, verb={}, resource=nodes, subresource(s)=[{}])\n", user.name,
                            attributes.verb, fmt::join(attributes.subresources, " ")));
}

}  // namespace k8sgpu::kubelet_api
