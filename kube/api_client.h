// Verbs on Kubernetes objects over a Transport. Objects are JSON trees, so unknown fields survive a round
// trip.
//
// Stateless but for the transport it refers to; any thread. Every call fails with the kinds of
// common/error.h: 404 NotFound, 409 AlreadyExists (create) or Conflict, 410 Gone, 422/400 Invalid, 429
// Throttled, 5xx Unavailable, 401 Unauthorized, 403 Forbidden (the message names verb, resource and user, as
// the API server words it).
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/json.h"
#include "kube/transport.h"

namespace k8sgpu::kube {

struct Resource {
    std::string_view group;    // "" for core
    std::string_view version;  // "v1"
    std::string_view plural;   // "pods"
};

namespace resources {
inline constexpr Resource kPods{"", "v1", "pods"};
inline constexpr Resource kNodes{"", "v1", "nodes"};
inline constexpr Resource kEvents{"", "v1", "events"};
inline constexpr Resource kSecrets{"", "v1", "secrets"};
inline constexpr Resource kConfigMaps{"", "v1", "configmaps"};
inline constexpr Resource kNamespaces{"", "v1", "namespaces"};
inline constexpr Resource kServices{"", "v1", "services"};
inline constexpr Resource kResourceQuotas{"", "v1", "resourcequotas"};
inline constexpr Resource kLeases{"coordination.k8s.io", "v1", "leases"};
inline constexpr Resource kCsrs{"certificates.k8s.io", "v1", "certificatesigningrequests"};
inline constexpr Resource kRuntimeClasses{"node.k8s.io", "v1", "runtimeclasses"};
inline constexpr Resource kTokenReviews{"authentication.k8s.io", "v1", "tokenreviews"};
inline constexpr Resource kSubjectAccessReviews{"authorization.k8s.io", "v1", "subjectaccessreviews"};
inline constexpr Resource kSelfSubjectAccessReviews{"authorization.k8s.io", "v1", "selfsubjectaccessreviews"};
}  // namespace resources

// "/api/v1/namespaces/a/pods/b/status"; empty parts are left out, names are encoded.
std::string resource_path(const Resource& resource, std::string_view ns, std::string_view name = "",
                          std::string_view subresource = "");

enum class PatchType { StrategicMerge, Merge, Json };

struct ListOptions {
    std::string field_selector;
    std::string label_selector;
    std::string resource_version;  // "" = most recent, "0" = from the server's cache
    std::int64_t limit = 0;        // 0 = all in one answer
    std::string continue_token;
};

struct ObjectList {
    std::vector<Json> items;
    std::string resource_version;
    std::string continue_token;  // not empty: more to come
};

struct DeleteOptions {
    std::optional<std::string> uid;  // precondition: delete only this very object
    std::optional<std::chrono::seconds> grace;
};

class ApiClient {
  public:
    explicit ApiClient(Transport& transport) : transport_(transport) {}

    Result<Json> get(const Resource& resource, std::string_view ns, std::string_view name,
                     const CallContext& ctx, std::string_view resource_version = "");
    Result<ObjectList> list(const Resource& resource, std::string_view ns, const ListOptions& options,
                            const CallContext& ctx);
    // All pages of a list; consistent, because the continue token pins the version. Gone when it expires
    // midway.
    Result<ObjectList> list_all(const Resource& resource, std::string_view ns, ListOptions options,
                                const CallContext& ctx);
    Result<Json> create(const Resource& resource, std::string_view ns, const Json& object,
                        const CallContext& ctx);
    // PUT; the object's resourceVersion, when present, is the precondition.
    Result<Json> replace(const Resource& resource, std::string_view ns, std::string_view name,
                         const Json& object, const CallContext& ctx, std::string_view subresource = "");
    Result<Json> patch(const Resource& resource, std::string_view ns, std::string_view name, PatchType type,
                       const Json& patch, const CallContext& ctx, std::string_view subresource = "");
    Result<void> remove(const Resource& resource, std::string_view ns, std::string_view name,
                        const DeleteOptions& options, const CallContext& ctx);
    // An open watch; each line of the stream is one event. Statuses >= 400 are errors here.
    Result<std::unique_ptr<ResponseStream>> watch(const Resource& resource, std::string_view ns,
                                                  const ListOptions& options,
                                                  std::chrono::seconds server_timeout,
                                                  const CallContext& ctx);
    // GET of any other path ("/version", "/readyz"), decoded.
    Result<Json> get_path(std::string_view path, const CallContext& ctx);

    Transport& transport() { return transport_; }

  private:
    Result<Json> send(Request request, const CallContext& ctx);
    Transport& transport_;
};

}  // namespace k8sgpu::kube
