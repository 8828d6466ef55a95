#include "kubelet_api/authn.h"

#include <openssl/hmac.h>
#include <openssl/rand.h>

#include <algorithm>

#include "common/json.h"
#include "common/log.h"
#include "kubelet_api/client_ca.h"
#include "kubelet_api/review_retry.h"
#include "kubelet_api/ttl_cache.h"

namespace k8sgpu::kubelet_api {

namespace {

constexpr std::string_view kAuthenticated = "system:authenticated";

void add_authenticated(User& user) {
    if (std::find(user.groups.begin(), user.groups.end(), kAuthenticated) == user.groups.end())
        user.groups.emplace_back(kAuthenticated);
}

std::vector<std::string> strings(const Json& array) {
    std::vector<std::string> out;
    for (const Json& item : array) {
        if (item.is_string()) out.push_back(item.get<std::string>());
    }
    return out;
}

User user_of(const Json& status) {
    User user;
    user.name = string_at(status, {"user", "username"});
    user.uid = string_at(status, {"user", "uid"});
    user.groups = strings(array_at(status, {"user", "groups"}));
    for (const auto& [key, values] : object_at(status, {"user", "extra"}).items()) {
        if (values.is_array()) user.extra[key] = strings(values);
    }
    add_authenticated(user);
    return user;
}

}  // namespace

struct DelegatingAuthenticator::Impl {
    Clock& clock;
    kube::ApiClient& client;
    const ClientCa& client_ca;
    DelegatingAuthenticatorOptions options;
    std::string cache_secret;
    TtlCache<std::optional<User>> tokens;  // nullopt: the API server does not know this token

    // The cache never holds a token, only what cannot be turned back into one.
    std::string cache_key(const std::string& token) const {
        unsigned char digest[EVP_MAX_MD_SIZE];
        unsigned int size = 0;
        HMAC(EVP_sha256(), cache_secret.data(), static_cast<int>(cache_secret.size()),
             reinterpret_cast<const unsigned char*>(token.data()), token.size(), digest, &size);
        return {reinterpret_cast<const char*>(digest), size};
    }

    Result<User> by_certificate(const std::vector<std::string>& chain) const {
        auto subject = client_ca.verify(chain, clock.wall_now());
        if (!subject) return fail(subject.error());
        if (subject->common_name.empty())
            return fail(ErrorKind::Unauthorized, "client certificate: its subject has no CN");
        User user;
        user.name = std::move(subject->common_name);
        user.groups = std::move(subject->organizations);
        add_authenticated(user);
        return user;
    }

    Result<User> by_token(const std::string& token, const CallContext& ctx) {
        const std::string key = cache_key(token);
        auto known = tokens.get(key, clock.now());
        if (!known) {
            const Json review = {{"apiVersion", "authentication.k8s.io/v1"},
                                 {"kind", "TokenReview"},
                                 {"spec", {{"token", token}}}};
            auto answer = create_review(client, kube::resources::kTokenReviews, review, options.retry,
                                        options.attempts, ctx);
            if (!answer) return fail(answer.error().with_context("token review"));
            const Json& status = object_at(*answer, {"status"});
            known.emplace();
            if (bool_at(status, {"authenticated"})) {
                *known = user_of(status);
            } else if (const std::string error = string_at(status, {"error"}); !error.empty()) {
                log().debug("token review: {}", error);
            }
            tokens.put(key, *known, clock.now() + options.token_ttl);
        }
        if (!*known || (*known)->name.empty())
            return fail(ErrorKind::Unauthorized, "bearer token is not valid");
        return std::move(**known);
    }
};

DelegatingAuthenticator::DelegatingAuthenticator(Clock& clock, kube::ApiClient& client,
                                                 const ClientCa& client_ca,
                                                 DelegatingAuthenticatorOptions options)
    : impl_(new Impl{clock, client, client_ca, options, std::string(32, '\0'),
                     TtlCache<std::optional<User>>(options.token_cache_entries)}) {
    RAND_bytes(reinterpret_cast<unsigned char*>(impl_->cache_secret.data()),
               static_cast<int>(impl_->cache_secret.size()));
}

DelegatingAuthenticator::~DelegatingAuthenticator() = default;

Result<User> DelegatingAuthenticator::authenticate(const Credentials& credentials, const CallContext& ctx) {
    Error last{ErrorKind::Unauthorized, "no credential was presented", {}, {}};
    if (!credentials.certificates.empty()) {
        auto user = impl_->by_certificate(credentials.certificates);
        if (user) return user;
        last = user.error();
    }
    if (credentials.bearer && !credentials.bearer->empty()) {
        auto user = impl_->by_token(*credentials.bearer, ctx);
        if (user) return user;
        last = user.error();
    }
    return fail(std::move(last));
}

}  // namespace k8sgpu::kubelet_api
