#include "providers/process/check.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "providers/process/handler.h"

namespace k8sgpu::providers::process {
namespace {

constexpr std::string_view kDefaultTerminationPath = "/dev/termination-log";
constexpr const char* kNoCluster = "remove the field or use a provider that runs containers";

Refused refuse(const std::string& field, const std::string& why, const std::string& way_out) {
    return {kUnsupported, fmt::format("{}: {}; {}", field, why, way_out)};
}

bool is_set(const Json& object, const char* name) {
    const Json& value = at(object, {name});
    if (value.is_boolean()) return value.get<bool>();
    if (value.is_string()) return !value.get_ref<const std::string&>().empty();
    return !value.is_null() && !(value.is_structured() && value.empty());
}

struct Objection {
    const char* name;
    const char* why;
    const char* way_out = kNoCluster;
};

// Set at all (true, not empty) means refused.
constexpr std::array kPodObjections = {
    Objection{"dnsConfig", "processes use the host's resolver"},
    Objection{"hostAliases", "processes use the host's /etc/hosts"},
    Objection{"setHostnameAsFQDN", "processes have the host's name; only $HOSTNAME tells the pod's"},
    Objection{"hostnameOverride", "processes have the host's name; only $HOSTNAME tells the pod's"},
    Objection{"resourceClaims", "dynamic resource allocation needs containers"},
    Objection{"ephemeralContainers", "a process has no namespaces to join", "use kubectl exec"},
};

constexpr std::array kContainerObjections = {
    Objection{"volumeDevices", "block devices cannot be given to a process"},
    Objection{"restartPolicyRules", "rules per exit code are not supported for processes yet",
              "use spec.restartPolicy"},
};

std::optional<Refused> check_volumes(const Json& pod) {
    std::size_t index = 0;
    for (const Json& volume : array_at(pod, {"spec", "volumes"})) {
        const std::string field = fmt::format("spec.volumes[{}]", index++);
        if (is_service_account_volume(volume)) continue;
        std::string type = "unknown type";
        for (const auto& [key, value] : volume.items()) {
            if (key != "name" && value.is_object()) type = key;
        }
        return refuse(
            fmt::format("{} ({}, {})", field, string_at(volume, {"name"}), type),
            "a process of this host has no file system to mount a volume in",
            "use paths of the host, the working directory, or env and envFrom for ConfigMaps and Secrets");
    }
    return std::nullopt;
}

std::optional<Refused> check_resources(const Json& container, const std::string& field,
                                       const std::set<std::string>& offered) {
    static const std::set<std::string> advisory = {"cpu", "memory", "ephemeral-storage"};
    for (const char* list : {"limits", "requests"}) {
        for (const auto& [name, amount] : object_at(container, {"resources", list}).items()) {
            if (advisory.contains(name) || offered.contains(name) || amount == Json("0")) continue;
            return refuse(fmt::format("{}.resources.{}[{}]", field, list, name),
                          "this node does not offer it",
                          "remove it or have the operator add it to the node's capacity");
        }
    }
    if (!array_at(container, {"resources", "claims"}).empty()) {
        return refuse(field + ".resources.claims", "dynamic resource allocation needs containers",
                      kNoCluster);
    }
    return std::nullopt;
}

std::optional<Refused> check_container(const Json& pod, const Json& container, const std::string& field,
                                       const CheckFacts& facts) {
    const Json& command = array_at(container, {"command"});
    if (command.empty()) {
        return refuse(
            field + ".command",
            fmt::format("the process provider runs commands of this host and reads no images, so it cannot "
                        "know the entrypoint of \"{}\"",
                        string_at(container, {"image"})),
            "set the command");
    }
    for (const Objection& objection : kContainerObjections) {
        if (is_set(container, objection.name)) {
            return refuse(fmt::format("{}.{}", field, objection.name), objection.why, objection.way_out);
        }
    }
    if (is_set(container, "restartPolicy")) {
        return refuse(fmt::format("{}.restartPolicy: {}", field, string_at(container, {"restartPolicy"})),
                      "sidecars and policies per container are not supported for processes yet",
                      "use spec.restartPolicy and a regular container");
    }
    const bool host_network = bool_at(pod, {"spec", "hostNetwork"});
    std::size_t index = 0;
    for (const Json& port : array_at(container, {"ports"})) {
        const auto number = int_at(port, {"hostPort"});
        const std::string here = fmt::format("{}.ports[{}].hostPort: {}", field, index++, number);
        if (number == 0 || host_network) continue;
        return refuse(here, "a process listens on the host's ports as it likes; none can be mapped",
                      "remove hostPort; the process's own port is reachable at the node's address");
    }
    const std::string path = string_at(container, {"terminationMessagePath"}, kDefaultTerminationPath);
    if (path != kDefaultTerminationPath && !path.empty()) {
        return refuse(fmt::format("{}.terminationMessagePath: {}", field, path),
                      "the path would be shared by all pods of this host",
                      "remove it and write to the file that $K8SGPU_TERMINATION_LOG names, or set "
                      "terminationMessagePolicy: FallbackToLogsOnError");
    }
    const std::string directory = string_at(container, {"workingDir"});
    if (!directory.empty() && directory.front() != '/') {
        return refuse(fmt::format("{}.workingDir: {}", field, directory), "not an absolute path",
                      "write an absolute path of this host, or remove it to use the pod's own directory");
    }
    if (auto refused = check_resources(container, field, facts.resources)) return refused;
    if (auto refused = check_handlers(container, field)) return refused;
    const auto identity = identity_of(pod, container, field, facts.user);
    if (const auto* refused = std::get_if<Refused>(&identity)) return *refused;
    return std::nullopt;
}

}  // namespace

bool is_service_account_volume(const Json& volume) {
    if (string_at(volume, {"name"}).rfind("kube-api-access-", 0) != 0) return false;
    const Json& sources = array_at(volume, {"projected", "sources"});
    return std::any_of(sources.begin(), sources.end(),
                       [](const Json& source) { return source.contains("serviceAccountToken"); });
}

std::optional<Refused> check_pod(const Json& pod, const CheckFacts& facts) {
    if (const auto uid = string_at(pod, {"metadata", "uid"}); !uid.empty() && uid.size() > 128) {
        return refuse("metadata.uid", "longer than 128 characters", "create the pod through an API server");
    }
    const Json& spec = object_at(pod, {"spec"});
    for (const Objection& objection : kPodObjections) {
        if (is_set(spec, objection.name)) {
            return refuse(fmt::format("spec.{}", objection.name), objection.why, objection.way_out);
        }
    }
    if (at(spec, {"hostUsers"}) == Json(false)) {
        return refuse("spec.hostUsers: false", "processes have no user namespace", kNoCluster);
    }
    if (const std::string os = string_at(spec, {"os", "name"}); !os.empty() && os != "linux") {
        return refuse("spec.os.name: " + os, "this host runs linux", "remove the field");
    }
    if (auto refused = check_volumes(pod)) return refused;
    for (const char* list : {"initContainers", "containers"}) {
        std::size_t index = 0;
        for (const Json& container : array_at(spec, {list})) {
            const std::string field = fmt::format("spec.{}[{}]", list, index++);
            if (auto refused = check_container(pod, container, field, facts)) return refused;
        }
    }
    return std::nullopt;
}

}  // namespace k8sgpu::providers::process
