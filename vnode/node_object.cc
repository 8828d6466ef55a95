#include "vnode/node_object.h"

#include <sys/utsname.h>

#include <algorithm>
#include <array>
#include <fstream>

#include "common/encoding.h"
#include "common/log.h"
#include "kube/quantity.h"

namespace k8sgpu::vnode {
namespace {

// The newest Kubernetes minor whose node contract this release implements.
constexpr int kNewestMinor = 36;

// What the binary was built for; a remote of another architecture says so by --node-labels.
#if defined(__aarch64__)
constexpr std::string_view kArch = "arm64";
#else
constexpr std::string_view kArch = "amd64";
#endif

Json condition(const std::string& type, bool value, const std::string& reason, const std::string& message) {
    return {{"type", type}, {"status", value ? "True" : "False"}, {"reason", reason}, {"message", message}};
}

// Since when is added where the time of the transition is known.
Json reachable_condition(const NodeConfig& config, const LinkReport& link, const Json* before) {
    switch (link.reach) {
        case Reach::Reachable:
            return condition("RemoteReachable", true, "Reachable",
                             fmt::format("provider {} answers", config.provider));
        case Reach::Unreachable:
            return condition("RemoteReachable", false, "Unreachable",
                             fmt::format("provider {}: {}", config.provider, link.message));
        case Reach::Unknown:
            break;
    }
    if (before != nullptr) return *before;  // what our former life has seen is truer than nothing
    Json unknown = condition("RemoteReachable", false, "NotAskedYet",
                             fmt::format("provider {} has not answered yet", config.provider));
    unknown["status"] = "Unknown";
    return unknown;
}

// Ready last, as the kubelet lists them.
Json own_conditions(const NodeConfig& config, const LinkReport& link, const Json* reachable_before) {
    Json list = Json::array();
    list.push_back(condition("MemoryPressure", false, "KubeletHasSufficientMemory",
                             "kubelet has sufficient memory available"));
    list.push_back(
        condition("DiskPressure", false, "KubeletHasNoDiskPressure", "kubelet has no disk pressure"));
    list.push_back(
        condition("PIDPressure", false, "KubeletHasSufficientPID", "kubelet has sufficient PID available"));
    // Nobody else sets it on a node without a CNI plugin, and KAI reads the condition even where the taint is
    // tolerated.
    list.push_back(condition("NetworkUnavailable", false, "RemoteNetwork",
                             "pods use the network of the provider; this node needs no routes"));
    list.push_back(reachable_condition(config, link, reachable_before));
    if (!link.ready) {
        list.push_back(condition("Ready", false, "RemoteUnreachable",
                                 "the provider is unreachable for longer than --remote-unreachable-grace"));
    } else {
        list.push_back(condition("Ready", true, "KubeletReady", "kubelet is posting ready status"));
    }
    return list;
}

const Json* find_condition(const Json& conditions, const std::string& type) {
    for (const Json& entry : conditions) {
        if (string_at(entry, {"type"}) == type) return &entry;
    }
    return nullptr;
}

// Every resource of the capacity, with what is in use as quantity.
Json at_most(const std::map<std::string, std::string>& capacity,
             const std::map<std::string, std::string>& in_use) {
    Json result = Json::object();
    for (const auto& [resource, offered] : capacity) {
        const auto used = in_use.find(resource);
        const std::string wanted = used == in_use.end() ? "0" : used->second;
        const auto limit = kube::Quantity::parse(offered);
        const auto value = kube::Quantity::parse(wanted);
        result[resource] = limit && value && *limit < *value ? offered : wanted;
    }
    return result;
}

std::string first_line(const char* path) {
    std::ifstream file(path);
    std::string line;
    std::getline(file, line);
    return line;
}

std::string provider_id(const NodeConfig& config) {
    return "k8sgpu://" + config.name;
}

// Stable across restarts and different for every node name: readers treat these as identities of a machine.
std::string synthetic_id(const std::string& seed) {
    const std::string hex = hex_encode(sha256("k8sgpu " + seed));
    return fmt::format("{}-{}-{}-{}-{}", hex.substr(0, 8), hex.substr(8, 4), hex.substr(12, 4),
                       hex.substr(16, 4), hex.substr(20, 12));
}

Json node_info(const NodeConfig& config, const NodeFacts& facts) {
    utsname kernel{};
    uname(&kernel);
    const std::string version = kubelet_version(facts.server_version, config.version);
    const bool proxy_version_expected = facts.server_version.starts_with("v1.30.") ||
                                        facts.server_version.starts_with("v1.31.") ||
                                        facts.server_version.starts_with("v1.32.");
    return {{"machineID", synthetic_id(config.name + " machine")},
            {"systemUUID", synthetic_id(config.name + " system")},
            {"bootID", first_line("/proc/sys/kernel/random/boot_id")},
            {"kernelVersion", kernel.release},
            {"osImage", "k8sgpu virtual node (" + config.provider + ")"},
            {"containerRuntimeVersion", "k8sgpu://" + config.version},
            {"kubeletVersion", version},
            {"kubeProxyVersion", proxy_version_expected ? version : ""},
            {"operatingSystem", "linux"},
            {"architecture", kArch}};
}

std::vector<std::string> split(const std::string& text, char separator) {
    std::vector<std::string> parts;
    std::size_t from = 0;
    while (from <= text.size()) {
        const std::size_t to = std::min(text.find(separator, from), text.size());
        if (to > from) parts.push_back(text.substr(from, to - from));
        from = to + 1;
    }
    return parts;
}

}  // namespace

std::map<std::string, std::string> managed_labels(const NodeConfig& config) {
    std::map<std::string, std::string> labels = {
        {"kubernetes.io/hostname", config.name},
        {"kubernetes.io/os", "linux"},
        {"kubernetes.io/arch", std::string(kArch)},
        {"beta.kubernetes.io/os", "linux"},
        {"beta.kubernetes.io/arch", std::string(kArch)},
        // Cluster autoscalers and the DaemonSets of cloud vendors leave nodes of this type alone.
        {"type", "virtual-kubelet"},
        // The GPU operator's DaemonSets have nothing to do here.
        {"nvidia.com/gpu.deploy.operands", "false"},
        {"k8s.gpu/provider", config.provider},
    };
    if (!config.node_identity) {
        labels["kubernetes.io/role"] = "agent";
        labels["node.kubernetes.io/exclude-from-external-load-balancers"] = "true";
    }
    for (const auto& [key, value] : config.labels) labels[key] = value;
    return labels;
}

Json build_node_status(const NodeConfig& config, const NodeFacts& facts, const LinkReport& link,
                       const Json& current, WallTime now) {
    const std::string stamp = rfc3339_seconds(now);
    const Json* reachable_before = find_condition(array_at(current, {"conditions"}), "RemoteReachable");
    Json conditions = own_conditions(config, link, reachable_before);
    for (Json& entry : conditions) {
        const Json* before = find_condition(array_at(current, {"conditions"}), string_at(entry, {"type"}));
        const bool same = before != nullptr && at(*before, {"status"}) == entry["status"];
        entry["lastHeartbeatTime"] = stamp;
        entry["lastTransitionTime"] = same ? string_at(*before, {"lastTransitionTime"}, stamp) : stamp;
        if (link.reach == Reach::Unreachable && entry["type"] == "RemoteReachable") {
            entry["message"] = fmt::format("{}; since {}", string_at(entry, {"message"}),
                                           string_at(entry, {"lastTransitionTime"}));
        }
    }
    Json allocatable = facts.capacity;
    if (link.in_use) {
        allocatable = at_most(facts.capacity, *link.in_use);
    } else if (link.reach == Reach::Unknown && reachable_before != nullptr &&
               string_at(*reachable_before, {"status"}) == "False") {
        allocatable = object_at(current, {"allocatable"});
    }
    // Only an address that is surely reachable: the API server tries a Hostname first by default, and nothing
    // resolves "k8s.gpu". kubectl top and metrics-server take InternalIP as well.
    const Json addresses = Json::array({{{"type", "InternalIP"}, {"address", config.node_ip}}});
    return {{"addresses", addresses},
            {"capacity", facts.capacity},
            {"allocatable", allocatable},
            {"conditions", conditions},
            {"daemonEndpoints", {{"kubeletEndpoint", {{"Port", config.port}}}}},
            {"nodeInfo", node_info(config, facts)}};
}

Json build_node(const NodeConfig& config, const NodeFacts& facts, const LinkReport& link, WallTime now) {
    Json taints = Json::array();
    for (const Taint& taint : config.taints) {
        Json entry = {{"key", taint.key}, {"effect", taint.effect}};
        if (!taint.value.empty()) entry["value"] = taint.value;
        taints.push_back(entry);
    }
    Json spec = {{"providerID", provider_id(config)}};
    if (!taints.empty()) spec["taints"] = taints;
    return {{"apiVersion", "v1"},
            {"kind", "Node"},
            {"metadata",
             {{"name", config.name},
              {"labels", managed_labels(config)},
              {"annotations", {{"volumes.kubernetes.io/controller-managed-attach-detach", "true"}}}}},
            {"spec", spec},
            {"status", build_node_status(config, facts, link, Json::object(), now)}};
}

Json node_metadata_patch(const NodeConfig& config, const Json& node) {
    Json labels = Json::object();
    const Json& present = object_at(node, {"metadata", "labels"});
    for (const auto& [key, value] : managed_labels(config)) {
        if (string_at(present, {key}) != value || !present.contains(key)) labels[key] = value;
    }
    Json patch = Json::object();
    if (!labels.empty()) patch["metadata"]["labels"] = labels;
    if (string_at(node, {"spec", "providerID"}).empty()) patch["spec"]["providerID"] = provider_id(config);
    return patch.empty() ? Json() : patch;
}

Json node_status_patch(const Json& current, const Json& wanted, bool report) {
    Json diff = Json::object();
    for (const char* key : {"capacity", "allocatable", "nodeInfo", "daemonEndpoints"}) {
        if (at(current, {key}) == at(wanted, {key})) continue;
        Json change = wanted.at(key);
        // A merge keeps resources that are no longer offered: remove them by name.
        for (const auto& [name, value] : object_at(current, {key}).items()) {
            if (!change.contains(name)) change[name] = nullptr;
        }
        diff[key] = change;
    }
    if (at(current, {"addresses"}) != at(wanted, {"addresses"})) {
        Json replacement = Json::array({{{"$patch", "replace"}}});
        for (const Json& address : array_at(wanted, {"addresses"})) replacement.push_back(address);
        diff["addresses"] = replacement;
    }
    bool changed = !diff.empty();
    Json conditions = Json::array();
    for (const Json& want : array_at(wanted, {"conditions"})) {
        const Json* is = find_condition(array_at(current, {"conditions"}), string_at(want, {"type"}));
        for (const char* key : {"status", "reason", "message"}) {
            if (is == nullptr || at(*is, {key}) != at(want, {key})) changed = true;
        }
        conditions.push_back(want);
    }
    if (!changed && !report) return {};
    diff["conditions"] = conditions;
    return {{"status", diff}};
}

std::string kubelet_version(const std::string& server_version, const std::string& our_version) {
    int major = 0, minor = 0, patch = 0;
    if (std::sscanf(server_version.c_str(), "v%d.%d.%d", &major, &minor, &patch) != 3) {
        return fmt::format("v1.30.0+k8sgpu.{}", our_version);
    }
    if (minor > kNewestMinor) return fmt::format("v1.{}.0+k8sgpu.{}", kNewestMinor, our_version);
    return fmt::format("v{}.{}.{}+k8sgpu.{}", major, minor, patch, our_version);
}

Result<std::map<std::string, std::string>> parse_labels(const std::string& text) {
    std::map<std::string, std::string> labels;
    for (const std::string& part : split(text, ',')) {
        const std::size_t equals = part.find('=');
        if (equals == std::string::npos || equals == 0) {
            return fail(ErrorKind::Invalid,
                        fmt::format("\"{}\" is not key=value; write key=value,key2=value2", part));
        }
        labels[part.substr(0, equals)] = part.substr(equals + 1);
    }
    return labels;
}

Result<std::vector<Taint>> parse_taints(const std::string& text) {
    static constexpr std::array kEffects = {"NoSchedule", "PreferNoSchedule", "NoExecute"};
    std::vector<Taint> taints;
    for (const std::string& part : split(text, ',')) {
        const std::size_t colon = part.rfind(':');
        const std::string effect = colon == std::string::npos ? "" : part.substr(colon + 1);
        if (std::find(kEffects.begin(), kEffects.end(), effect) == kEffects.end()) {
            return fail(
                ErrorKind::Invalid,
                fmt::format("\"{}\" has no effect of NoSchedule, PreferNoSchedule or NoExecute; write "
                            "key=value:NoSchedule",
                            part));
        }
        const std::string key_value = part.substr(0, colon);
        const std::size_t equals = key_value.find('=');
        if (key_value.empty() || equals == 0) {
            return fail(ErrorKind::Invalid,
                        fmt::format("\"{}\" has no key; write key=value:NoSchedule", part));
        }
        taints.push_back({key_value.substr(0, equals),
                          equals == std::string::npos ? "" : key_value.substr(equals + 1), effect});
    }
    return taints;
}

}  // namespace k8sgpu::vnode
