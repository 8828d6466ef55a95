// Who is calling: the port, and the kubelet's way of finding out (client certificate, else bearer token by
// TokenReview). Anonymous callers do not exist here: there is no option to let them in.
//
// Implementations are called from all connection threads at once.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/backoff.h"
#include "common/call_context.h"
#include "common/result.h"
#include "kube/api_client.h"

namespace k8sgpu::kubelet_api {

class ClientCa;

struct User {
    std::string name;
    std::string uid;
    std::vector<std::string> groups;  // with system:authenticated
    std::map<std::string, std::vector<std::string>> extra;
};

// What a connection and a request presented.
struct Credentials {
    std::vector<std::string> certificates;  // DER, leaf first; empty = none presented
    std::optional<std::string> bearer;      // without the scheme; nullopt = none, empty counts as none
};

class Authenticator {
  public:
    virtual ~Authenticator() = default;
    // Unauthorized: nothing was presented, or nothing of it is valid. Other kinds: it could not be found out
    // now (TokenReview failed). Both are answered 401.
    virtual Result<User> authenticate(const Credentials& credentials, const CallContext& ctx) = 0;
};

struct DelegatingAuthenticatorOptions {
    Duration token_ttl{120'000};  // successes and refusals alike; failures are not kept
    std::size_t token_cache_entries = 4096;
    // Between attempts of a TokenReview that failed for reasons time heals; as the kubelet: 5 × 500 ms × 1.5.
    BackoffPolicy retry{Duration(500), Duration(5'000), 1.5, 0.2};
    int attempts = 5;
};

class DelegatingAuthenticator final : public Authenticator {
  public:
    // `client` must be allowed to create TokenReviews.
    DelegatingAuthenticator(Clock& clock, kube::ApiClient& client, const ClientCa& client_ca,
                            DelegatingAuthenticatorOptions options = {});
    ~DelegatingAuthenticator() override;

    Result<User> authenticate(const Credentials& credentials, const CallContext& ctx) override;

  private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace k8sgpu::kubelet_api
