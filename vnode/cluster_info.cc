#include "vnode/cluster_info.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <sys/socket.h>

#include <algorithm>

#include "common/backoff.h"
#include "common/log.h"
#include "common/scope_exit.h"
#include "kube/object.h"
#include "net/fd.h"

namespace k8sgpu::vnode {
namespace {

constexpr kube::Resource kSelfSubjectReviews{"authentication.k8s.io", "v1", "selfsubjectreviews"};
constexpr Duration kAttempt{10'000};

}  // namespace

Result<ClusterInfo> fetch_cluster_info(kube::ApiClient& client, const CallContext& ctx) {
    ClusterInfo info;
    const auto version = client.get_path("/version", ctx);
    if (!version) return fail(version.error());
    info.server_version = string_at(*version, {"gitVersion"});

    const Json review = {{"apiVersion", "authentication.k8s.io/v1"}, {"kind", "SelfSubjectReview"}};
    const auto self = client.create(kSelfSubjectReviews, "", review, ctx);
    if (!self) return fail(self.error().with_context("asking who we are"));
    info.username = string_at(*self, {"status", "userInfo", "username"});
    const Json& groups = array_at(*self, {"status", "userInfo", "groups"});
    info.node_identity = info.username.starts_with("system:node:") &&
                         std::find(groups.begin(), groups.end(), "system:nodes") != groups.end();

    const auto system = client.get(kube::resources::kNamespaces, "", "kube-system", ctx);
    if (!system) {
        const char* manifest = info.node_identity ? "manifests/node-identity.yaml" : "manifests/rbac.yaml";
        return fail(system.error().with_context(
            fmt::format("reading the cluster's identity (granted by {})", manifest)));
    }
    info.cluster_uid = kube::uid_of(*system);
    return info;
}

Result<ClusterInfo> wait_for_cluster(kube::ApiClient& client, Clock& clock, std::stop_token stop,
                                     const std::function<void(const Error&)>& waiting) {
    Backoff backoff({Duration(500), Duration(10'000), 2.0, 0.2});
    while (true) {
        auto info = fetch_cluster_info(client, CallContext::with_timeout(clock, kAttempt, stop));
        if (info) return info;
        if (stop.stop_requested())
            return fail(ErrorKind::Cancelled, "stopped while waiting for the API server");
        waiting(info.error());
        clock.sleep_for(backoff.next(), stop);
    }
}

Result<std::string> address_facing(const std::string& host, std::uint16_t port) {
    addrinfo hints{};
    hints.ai_socktype = SOCK_DGRAM;
    addrinfo* found = nullptr;
    const int failed = ::getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &found);
    if (failed != 0)
        return fail(ErrorKind::Unavailable, fmt::format("resolving {}: {}", host, gai_strerror(failed)));
    const ScopeExit free_found([found] { ::freeaddrinfo(found); });
    for (const addrinfo* entry = found; entry != nullptr; entry = entry->ai_next) {
        const net::Fd socket(::socket(entry->ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0));
        if (!socket.valid() || ::connect(socket.get(), entry->ai_addr, entry->ai_addrlen) != 0) continue;
        sockaddr_storage local{};
        socklen_t size = sizeof local;
        if (::getsockname(socket.get(), reinterpret_cast<sockaddr*>(&local), &size) != 0) continue;
        char text[NI_MAXHOST];
        if (::getnameinfo(reinterpret_cast<sockaddr*>(&local), size, text, sizeof text, nullptr, 0,
                          NI_NUMERICHOST) != 0) {
            continue;
        }
        const std::string address = text;
        if (address.starts_with("127.") || address == "::1") {
            return fail(
                ErrorKind::Invalid,
                fmt::format(
                    "the way to the API server {} is {}, where it refuses to reach a node; give --node-ip "
                    "with an address of this machine that it can reach",
                    host, address));
        }
        return address;
    }
    return fail(ErrorKind::Unavailable, fmt::format("no route to the API server {}; give --node-ip", host));
}

}  // namespace k8sgpu::vnode
