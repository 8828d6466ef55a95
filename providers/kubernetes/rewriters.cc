#include "providers/kubernetes/rewriters.h"

#include <fmt/format.h>

#include "providers/kubernetes/owner_mark.h"

namespace k8sgpu::providers::kubernetes {
namespace {

using Action = RewriteResult::Action;

RewriteResult rename(const RewriteContext& context, LocalKind kind, Json& name) {
    if (!name.is_string() || name.get_ref<const std::string&>().empty()) return {};
    name = copy_name(context.options.owner, kind, context.id.ns, name.get_ref<const std::string&>());
    return {Action::Changed, {}, false};
}

// The key in "metadata.labels['key']" when `path` is that of `map`, else empty.
std::string_view subscript(std::string_view path, std::string_view map) {
    if (!path.starts_with(map)) return {};
    path.remove_prefix(map.size());
    if (!path.starts_with("['") || !path.ends_with("']") || path.size() < 5) return {};
    return path.substr(2, path.size() - 4);
}

std::string joined(const std::vector<std::string>& values) {
    return fmt::format("{}", fmt::join(values, ","));
}

std::vector<std::string> host_ips(const RewriteContext& context) {
    std::vector<std::string> ips;
    for (const Json& entry : array_at(context.local_pod, {"status", "hostIPs"})) {
        if (auto ip = string_at(entry, {"ip"}); !ip.empty()) ips.push_back(std::move(ip));
    }
    const std::string first = string_at(context.local_pod, {"status", "hostIP"});
    if (ips.empty() && !first.empty()) ips.push_back(first);
    return ips.empty() ? context.options.host_ips : ips;
}

// What the local kubelet would have put there, for the fields whose remote value would be another; nullopt
// for those that are as true there.
std::optional<std::string> local_value(const RewriteContext& context, std::string_view path) {
    if (path == "metadata.name") return context.id.name;
    if (path == "metadata.namespace") return context.id.ns;
    if (path == "metadata.uid") return context.id.uid;
    if (path == "spec.nodeName") return context.options.owner.node_name;
    if (path == "spec.serviceAccountName") {
        return string_at(context.local_pod, {"spec", "serviceAccountName"}, "default");
    }
    if (path == "status.hostIP" || path == "status.hostIPs") {
        const auto ips = host_ips(context);
        if (ips.empty()) return std::nullopt;
        return path == "status.hostIP" ? ips.front() : joined(ips);
    }
    for (const char* map : {"labels", "annotations"}) {
        const std::string_view key = subscript(path, std::string("metadata.") + map);
        if (!key.empty() && !is_carried_key(key)) {
            return string_at(context.local_pod, {"metadata", map, key});
        }
    }
    return std::nullopt;
}

// The kubelet expands "$(NAME)" in values; "$$" stands for "$".
std::string without_expansion(const std::string& value) {
    std::string out;
    for (const char c : value) out.append(c == '$' ? 2 : 1, c);
    return out;
}

bool requests_resource(const Json& pod, const std::string& resource) {
    for (const char* list : {"containers", "initContainers"}) {
        for (const Json& container : array_at(pod, {"spec", list})) {
            for (const char* side : {"limits", "requests"}) {
                if (object_at(container, {"resources", side}).contains(resource)) return true;
            }
        }
    }
    return object_at(pod, {"spec", "resources", "limits"}).contains(resource);
}

}  // namespace

RewriteResult rename_config_map(const RewriteContext& context, Json& name) {
    return rename(context, LocalKind::ConfigMap, name);
}

RewriteResult rename_secret(const RewriteContext& context, Json& name) {
    return rename(context, LocalKind::Secret, name);
}

RewriteResult rewrite_env(const RewriteContext& context, Json& variable) {
    const std::string path = string_at(variable, {"valueFrom", "fieldRef", "fieldPath"});
    if (path.empty()) return {};
    const auto value = local_value(context, path);
    if (!value) return {};
    variable.erase("valueFrom");
    variable["value"] = without_expansion(*value);
    return {Action::Changed, path + " as the local cluster means it", false};
}

RewriteResult rewrite_downward_item(const RewriteContext&, Json& item) {
    const std::string path = string_at(item, {"fieldRef", "fieldPath"});
    std::string source;
    if (path == "metadata.name") source = fmt::format("metadata.annotations['{}']", kPodNameAnnotation);
    if (path == "metadata.namespace") {
        source = fmt::format("metadata.annotations['{}']", kPodNamespaceAnnotation);
    }
    if (path == "metadata.uid") source = fmt::format("metadata.labels['{}']", kPodUidLabel);
    if (!source.empty()) {
        item["fieldRef"]["fieldPath"] = source;
        return {Action::Changed, path + " as the local cluster means it", false};
    }
    for (const char* map : {"metadata.labels", "metadata.annotations"}) {
        const std::string_view key = subscript(path, map);
        if (!key.empty() && !is_carried_key(key)) {
            return {
                Action::Refuse,
                fmt::format("{} is not carried to the remote pod; take it by an environment variable", path),
                true};
        }
    }
    return {};
}

std::set<std::string> automatic_token_volumes(const Json& pod) {
    std::set<std::string> names;
    for (const Json& volume : array_at(pod, {"spec", "volumes"})) {
        const std::string name = string_at(volume, {"name"});
        if (!name.starts_with("kube-api-access-")) continue;  // the admission plugin's prefix
        for (const Json& source : array_at(volume, {"projected", "sources"})) {
            if (source.contains("serviceAccountToken")) names.insert(name);
        }
    }
    return names;
}

RewriteResult drop_token_volume(const RewriteContext& context, Json& volume) {
    if (!context.token_volumes.contains(string_at(volume, {"name"}))) return {};
    return {Action::Remove,
            "the service account's token is not handed to the remote cluster: this pod cannot call the "
            "Kubernetes API; set automountServiceAccountToken: false to say that it need not",
            true};
}

RewriteResult drop_token_mount(const RewriteContext& context, Json& mount) {
    if (!context.token_volumes.contains(string_at(mount, {"name"}))) return {};
    return {Action::Remove, "its volume is not there", false};
}

RewriteResult filter_toleration(const RewriteContext& context, Json& toleration) {
    const std::string key = string_at(toleration, {"key"});
    // How long to stay on a node that fell silent is a wish about the machine, which is a remote one.
    if (key == "node.kubernetes.io/not-ready" || key == "node.kubernetes.io/unreachable") return {};
    // Nodes with a device are tainted by the name of its resource (ExtendedResourceToleration).
    if (!key.empty() && requests_resource(context.local_pod, key)) return {};
    return {Action::Remove, {}, false};
}

RewriteResult choose_runtime_class(const RewriteContext& context, Json& name) {
    const std::string& policy = context.options.runtime_class;
    if (policy == "same") return {};
    if (policy.empty()) return {Action::Remove, "no runtime class is set for remote pods", false};
    if (name == policy) return {};
    name = policy;
    return {Action::Changed, fmt::format("remote pods run in class \"{}\"", policy), false};
}

}  // namespace k8sgpu::providers::kubernetes
