// What a caller may do: the port, the kubelet's mapping of requests to attributes of the resource "nodes",
// and the implementation that asks the API server by SubjectAccessReview.
//
// Implementations are called from all connection threads at once.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "common/backoff.h"
#include "common/call_context.h"
#include "common/result.h"
#include "kube/api_client.h"
#include "kubelet_api/authn.h"

namespace k8sgpu::kubelet_api {

// Asked in order, the first allowed subresource wins (fine-grained authorization, KEP-2862).
struct AccessAttributes {
    std::string verb;  // "get", "create", …; "" for methods without a verb
    std::vector<std::string> subresources;
};

// Pure: the attributes of a request, by method and decoded path without the query.
AccessAttributes access_attributes(std::string_view method, std::string_view path);

class Authorizer {
  public:
    virtual ~Authorizer() = default;
    // Forbidden: the answer is no; message is the body of the 403 as kubelets from 1.32 word it. Any other
    // error: no answer could be had; message is the body of the 500. Never open.
    virtual Result<void> authorize(const User& user, const AccessAttributes& attributes,
                                   const CallContext& ctx) = 0;
};

struct SarAuthorizerOptions {
    std::string node_name;
    Duration allowed_ttl{300'000};
    Duration denied_ttl{30'000};
    std::size_t cache_entries = 8192;
    std::size_t max_cached_spec_bytes = 10'000;  // larger questions are asked every time
    BackoffPolicy retry{Duration(500), Duration(5'000), 1.5, 0.2};
    int attempts = 5;
};

class SarAuthorizer final : public Authorizer {
  public:
    // `client` must be allowed to create SubjectAccessReviews.
    SarAuthorizer(Clock& clock, kube::ApiClient& client, SarAuthorizerOptions options);
    ~SarAuthorizer() override;

    Result<void> authorize(const User& user, const AccessAttributes& attributes,
                           const CallContext& ctx) override;

  private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace k8sgpu::kubelet_api
