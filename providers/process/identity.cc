#include "providers/process/identity.h"

#include <fmt/format.h>
#include <pwd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <set>

namespace k8sgpu::providers::process {
namespace {

constexpr std::array<std::string_view, kCapabilityCount> kCapabilities = {"CHOWN",
                                                                          "DAC_OVERRIDE",
                                                                          "DAC_READ_SEARCH",
                                                                          "FOWNER",
                                                                          "FSETID",
                                                                          "KILL",
                                                                          "SETGID",
                                                                          "SETUID",
                                                                          "SETPCAP",
                                                                          "LINUX_IMMUTABLE",
                                                                          "NET_BIND_SERVICE",
                                                                          "NET_BROADCAST",
                                                                          "NET_ADMIN",
                                                                          "NET_RAW",
                                                                          "IPC_LOCK",
                                                                          "IPC_OWNER",
                                                                          "SYS_MODULE",
                                                                          "SYS_RAWIO",
                                                                          "SYS_CHROOT",
                                                                          "SYS_PTRACE",
                                                                          "SYS_PACCT",
                                                                          "SYS_ADMIN",
                                                                          "SYS_BOOT",
                                                                          "SYS_NICE",
                                                                          "SYS_RESOURCE",
                                                                          "SYS_TIME",
                                                                          "SYS_TTY_CONFIG",
                                                                          "MKNOD",
                                                                          "LEASE",
                                                                          "AUDIT_WRITE",
                                                                          "AUDIT_CONTROL",
                                                                          "SETFCAP",
                                                                          "MAC_OVERRIDE",
                                                                          "MAC_ADMIN",
                                                                          "SYSLOG",
                                                                          "WAKE_ALARM",
                                                                          "BLOCK_SUSPEND",
                                                                          "AUDIT_READ",
                                                                          "PERFMON",
                                                                          "BPF",
                                                                          "CHECKPOINT_RESTORE"};

// What a field's value means here: nullptr when it asks for nothing that a host process lacks, else why not.
const char* objection(const std::string& name, const Json& value) {
    const auto type = string_at(value, {"type"});
    if (name == "privileged") {
        return value == Json(true) ? "a process of this host has the agent's privileges, no more" : nullptr;
    }
    if (name == "readOnlyRootFilesystem") {
        return value == Json(true) ? "needs a file system of the container's own" : nullptr;
    }
    if (name == "seccompProfile" || name == "appArmorProfile") {
        return type.empty() || type == "Unconfined" ? nullptr : "cannot be applied to a process of this host";
    }
    if (name == "procMount") {
        return value == Json("Default") ? nullptr : "needs a /proc of the container's own";
    }
    if (name == "seLinuxOptions" || name == "windowsOptions" || name == "sysctls") {
        return value.empty() ? nullptr : "cannot be applied to a process of this host";
    }
    return "is not known to this version";
}

// Fields that identity_of() itself applies, or that only matter to volumes, of which there are none.
const std::set<std::string>& handled() {
    static const std::set<std::string> names = {"runAsUser",
                                                "runAsGroup",
                                                "runAsNonRoot",
                                                "supplementalGroups",
                                                "fsGroup",
                                                "fsGroupChangePolicy",
                                                "supplementalGroupsPolicy",
                                                "seLinuxChangePolicy",
                                                "capabilities",
                                                "allowPrivilegeEscalation"};
    return names;
}

Refused refuse(const std::string& field, const std::string& why, const std::string& way_out,
               const char* reason = kUnsupported) {
    return {reason, fmt::format("{}: {}; {}", field, why, way_out)};
}

std::optional<Refused> check_fields(const Json& context, const std::string& field) {
    for (const auto& [name, value] : context.items()) {
        if (value.is_null() || handled().contains(name)) continue;
        if (const char* why = objection(name, value)) {
            return refuse(fmt::format("{}.{}", field, name), why, "remove the field or use another provider");
        }
    }
    return std::nullopt;
}

std::optional<Refused> apply_capabilities(const Json& capabilities, const std::string& field,
                                          const HostUser& host, Identity& identity) {
    if (!array_at(capabilities, {"add"}).empty()) {
        return refuse(field + ".add",
                      "a process of this host has the capabilities of the agent's user, no more",
                      "remove the field");
    }
    for (const Json& entry : array_at(capabilities, {"drop"})) {
        std::string name = entry.is_string() ? entry.get<std::string>() : "";
        std::transform(name.begin(), name.end(), name.begin(),
                       [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
        if (name.rfind("CAP_", 0) == 0) name.erase(0, 4);
        const auto number = capability_number(name);
        if (!number && name != "ALL") {
            return refuse(field + ".drop", fmt::format("\"{}\" is no Linux capability", name),
                          "correct the name");
        }
        // Without root there is nothing to drop from, but a set-user-ID program could gain it: close that
        // way.
        if (!host.privileged()) identity.no_new_privileges = true;
        for (int i = 0; host.privileged() && i < kCapabilityCount; ++i) {
            if (!number || i == *number) identity.dropped_capabilities.push_back(i);
        }
    }
    return std::nullopt;
}

}  // namespace

HostUser HostUser::current() {
    HostUser user;
    user.uid = ::geteuid();
    user.gid = ::getegid();
    const int count = ::getgroups(0, nullptr);
    if (count > 0) {
        user.groups.resize(static_cast<std::size_t>(count));
        const int got = ::getgroups(count, user.groups.data());
        user.groups.resize(static_cast<std::size_t>(std::max(0, got)));
    }
    user.home = [](uid_t uid) -> std::string {
        struct passwd entry {};
        struct passwd* found = nullptr;
        std::array<char, 16384> buffer{};
        if (::getpwuid_r(uid, &entry, buffer.data(), buffer.size(), &found) != 0 || found == nullptr)
            return "/";
        return entry.pw_dir;
    };
    user.primary_group = [](uid_t uid) -> std::optional<gid_t> {
        struct passwd entry {};
        struct passwd* found = nullptr;
        std::array<char, 16384> buffer{};
        if (::getpwuid_r(uid, &entry, buffer.data(), buffer.size(), &found) != 0 || found == nullptr) {
            return std::nullopt;
        }
        return entry.pw_gid;
    };
    return user;
}

std::variant<Identity, Refused> identity_of(const Json& pod, const Json& container, const std::string& field,
                                            const HostUser& host) {
    const Json& of_pod = object_at(pod, {"spec", "securityContext"});
    const Json& own = object_at(container, {"securityContext"});
    const std::string pod_field = "spec.securityContext", own_field = field + ".securityContext";
    if (auto refused = check_fields(of_pod, pod_field)) return *refused;
    if (auto refused = check_fields(own, own_field)) return *refused;

    // The container's value wins over the pod's.
    const auto setting = [&](const char* name) -> std::pair<const Json*, std::string> {
        const bool here = own.contains(name) && !own[name].is_null();
        return {&at(here ? own : of_pod, {name}), fmt::format("{}.{}", here ? own_field : pod_field, name)};
    };
    Identity identity;
    identity.uid = host.uid;
    identity.gid = host.gid;
    identity.groups = host.groups;

    const auto [user, user_field] = setting("runAsUser");
    const auto [group, group_field] = setting("runAsGroup");
    if (user->is_number_integer()) identity.uid = user->get<uid_t>();
    if (identity.uid != host.uid && !host.privileged()) {
        return refuse(user_field,
                      fmt::format("{} is another user than the agent's ({})", identity.uid, host.uid),
                      "remove the field, or run the agent as that user or as root");
    }
    if (group->is_number_integer()) {
        identity.gid = group->get<gid_t>();
    } else if (identity.uid != host.uid) {
        const auto primary = host.primary_group(identity.uid);
        if (!primary) {
            return refuse(user_field, fmt::format("user {} has no group on this host", identity.uid),
                          "set runAsGroup too");
        }
        identity.gid = *primary;
    }
    // A user other than ours starts without our groups, as in a container.
    if (identity.uid != host.uid) identity.groups.clear();
    std::vector<gid_t> extra;
    for (const Json& number : array_at(of_pod, {"supplementalGroups"})) {
        if (number.is_number_integer()) extra.push_back(number.get<gid_t>());
    }
    if (const Json& number = at(of_pod, {"fsGroup"}); number.is_number_integer()) {
        extra.push_back(number.get<gid_t>());
    }
    const auto have = [&](gid_t gid) {
        return gid == host.gid || std::find(host.groups.begin(), host.groups.end(), gid) != host.groups.end();
    };
    if (!host.privileged()) {
        if (identity.gid != host.gid) {
            return refuse(group_field,
                          fmt::format("{} is another group than the agent's ({})", identity.gid, host.gid),
                          "remove the field, or run the agent as root");
        }
        for (const gid_t gid : extra) {
            if (have(gid)) continue;
            return refuse(
                pod_field,
                fmt::format("the agent's user is not in group {} of supplementalGroups or fsGroup", gid),
                "remove the group, or run the agent as root");
        }
    } else {
        identity.groups.insert(identity.groups.end(), extra.begin(), extra.end());
        identity.switch_user = identity.uid != host.uid || identity.gid != host.gid || !extra.empty();
    }

    const auto [non_root, non_root_field] = setting("runAsNonRoot");
    if (*non_root == Json(true) && identity.uid == 0) {
        return Refused{"CreateContainerConfigError",
                       fmt::format("{}: the agent runs as root, and so would the container; set runAsUser",
                                   non_root_field)};
    }
    const Json& escalation = at(own, {"allowPrivilegeEscalation"});
    identity.no_new_privileges = escalation == Json(false);
    if (auto refused =
            apply_capabilities(at(own, {"capabilities"}), own_field + ".capabilities", host, identity)) {
        return *refused;
    }
    return identity;
}

std::optional<int> capability_number(const std::string& name) {
    const auto found = std::find(kCapabilities.begin(), kCapabilities.end(), name);
    if (found == kCapabilities.end()) return std::nullopt;
    return static_cast<int>(found - kCapabilities.begin());
}

}  // namespace k8sgpu::providers::process
