// As whom a container's processes run: securityContext of pod and container, applied or refused, never
// ignored (kubelet-contract §5.15). Pure; any thread.
//
// An unprivileged agent can only run what asks for its own user and groups. A root agent switches user,
// groups and capabilities. Whatever needs namespaces, a confined root file system or a security module is
// refused.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "providers/port/provider.h"
#include "providers/process/intent.h"

namespace k8sgpu::providers::process {

// Who the agent is, and what the host knows about users.
struct HostUser {
    uid_t uid = 0;
    gid_t gid = 0;
    std::vector<gid_t> groups;
    std::function<std::optional<gid_t>(uid_t)> primary_group = [](uid_t) { return std::nullopt; };

    std::function<std::string(uid_t)> home = [](uid_t) { return "/"; };

    bool privileged() const { return uid == 0; }
    static HostUser current();
};

// The reason of every refusal that a processes-on-this-host provider has to make by its nature.
inline constexpr const char* kUnsupported = "PodFeatureUnsupported";

// `field` is the container's place in the pod ("spec.containers[0]").
std::variant<Identity, Refused> identity_of(const Json& pod, const Json& container, const std::string& field,
                                            const HostUser& host);

// The number of a Linux capability by its name without "CAP_" ("NET_ADMIN"); nullopt when unknown.
std::optional<int> capability_number(const std::string& name);
inline constexpr int kCapabilityCount = 41;  // CAP_CHOWN … CAP_CHECKPOINT_RESTORE (capabilities(7))

}  // namespace k8sgpu::providers::process
