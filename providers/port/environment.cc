#include "providers/port/environment.h"

#include <fmt/format.h>

#include <optional>

#include "common/encoding.h"
#include "kube/quantity.h"

namespace k8sgpu::providers {
namespace {

// Either side of `$(NAME)`: what was set before wins over the service variables.
std::string expand(std::string_view text, const std::function<const std::string*(const std::string&)>& find) {
    std::string out;
    std::size_t i = 0;
    while (i < text.size()) {
        if (text[i] != '$' || i + 1 == text.size()) {
            out += text[i++];
            continue;
        }
        if (text[i + 1] == '$') {
            out += '$';
            i += 2;
            continue;
        }
        const std::size_t close = text[i + 1] == '(' ? text.find(')', i + 2) : std::string_view::npos;
        if (close == std::string_view::npos) {
            out.append(text, i, 2);
            i += 2;
            continue;
        }
        const std::string name(text.substr(i + 2, close - i - 2));
        const std::string* value = find(name);
        out += value != nullptr ? *value : "$(" + name + ")";
        i = close + 1;
    }
    return out;
}

const std::string* find_in(const Environment& known, const std::string& name) {
    const auto found = known.find(name);
    return found == known.end() ? nullptr : &found->second;
}

// The value behind metadata.labels['k'], or nullopt when the path has another form.
std::optional<std::string> map_entry(const Json& pod, const std::string& path, const char* map) {
    const std::string prefix = fmt::format("metadata.{}['", map);
    if (path.rfind(prefix, 0) != 0 || path.size() < prefix.size() + 2 ||
        path.substr(path.size() - 2) != "']") {
        return std::nullopt;
    }
    return string_at(pod, {"metadata", map, path.substr(prefix.size(), path.size() - prefix.size() - 2)});
}

std::optional<std::string> field_value(const EnvironmentInputs& inputs, const std::string& path) {
    const auto first = [](const std::vector<std::string>& list) { return list.empty() ? "" : list.front(); };
    for (const char* name : {"name", "namespace", "uid"}) {
        if (path == fmt::format("metadata.{}", name)) return string_at(inputs.pod, {"metadata", name});
    }
    for (const char* map : {"labels", "annotations"}) {
        if (auto value = map_entry(inputs.pod, path, map)) return value;
    }
    if (path == "spec.nodeName") return string_at(inputs.pod, {"spec", "nodeName"}, inputs.node.name);
    if (path == "spec.serviceAccountName") return string_at(inputs.pod, {"spec", "serviceAccountName"});
    if (path == "status.hostIP") return first(inputs.node.host_ips);
    if (path == "status.hostIPs") return fmt::format("{}", fmt::join(inputs.node.host_ips, ","));
    if (path == "status.podIP") return first(inputs.pod_ips);
    if (path == "status.podIPs") return fmt::format("{}", fmt::join(inputs.pod_ips, ","));
    return std::nullopt;
}

const Json* find_container(const Json& pod, const std::string& name) {
    for (const char* list : {"containers", "initContainers"}) {
        for (const Json& container : array_at(pod, {"spec", list})) {
            if (string_at(container, {"name"}) == name) return &container;
        }
    }
    return nullptr;
}

std::string quantity_text(const Json& value) {
    if (value.is_string()) return value.get<std::string>();
    return value.is_number() ? value.dump() : "";
}

// ceil(quantity / divisor); nullopt for a resource or a quantity that nobody knows.
std::optional<std::string> resource_value(const EnvironmentInputs& inputs, const Json& own,
                                          const Json& selector) {
    const std::string resource = string_at(selector, {"resource"});
    const std::size_t dot = resource.find('.');
    if (dot == std::string::npos) return std::nullopt;
    const std::string list = resource.substr(0, dot), name = resource.substr(dot + 1);
    const bool huge = name.rfind("hugepages-", 0) == 0;
    const bool has_node_default = name == "cpu" || name == "memory" || name == "ephemeral-storage";
    if ((list != "limits" && list != "requests") || (!huge && !has_node_default)) return std::nullopt;

    const std::string of = string_at(selector, {"containerName"});
    const Json* container = of.empty() ? &own : find_container(inputs.pod, of);
    if (container == nullptr) return std::nullopt;

    // Cores are counted in thousandths so that a divisor of 1m works.
    const bool milli = name == "cpu";
    const auto amount_of = [milli](const std::string& written) -> std::optional<std::int64_t> {
        const auto parsed = kube::Quantity::parse(written);
        if (!parsed) return std::nullopt;
        return milli ? parsed->milli() : parsed->units();
    };
    std::int64_t amount = 0;
    if (const std::string text = quantity_text(at(*container, {"resources", list, name})); !text.empty()) {
        const auto parsed = amount_of(text);
        if (!parsed) return std::nullopt;
        amount = *parsed;
    }
    if (amount == 0 && list == "limits" && has_node_default) {
        if (const auto node = inputs.node.allocatable.find(name); node != inputs.node.allocatable.end()) {
            amount = amount_of(node->second).value_or(0);
        }
    }
    std::int64_t divisor = 0;
    if (const std::string text = quantity_text(at(selector, {"divisor"})); !text.empty()) {
        const auto parsed = amount_of(text);
        if (!parsed) return std::nullopt;
        divisor = *parsed;
    }
    if (divisor <= 0) divisor = milli ? 1000 : 1;
    return fmt::format("{}", amount / divisor + (amount % divisor > 0 ? 1 : 0));
}

// One container's resolution: `known` grows as sources are read.
class Resolver {
  public:
    Resolver(const EnvironmentInputs& inputs, const Json& container)
        : inputs_(inputs), container_(container) {}

    Result<EnvironmentOutcome> run(const std::string& field) {
        std::size_t index = 0;
        for (const Json& source : array_at(container_, {"envFrom"})) {
            if (auto done = add_all(source, fmt::format("{}.envFrom[{}]", field, index++)); !done) {
                return fail(done.error());
            }
            if (stopped_) return *stopped_;
        }
        index = 0;
        for (const Json& variable : array_at(container_, {"env"})) {
            if (auto done = add_one(variable, fmt::format("{}.env[{}]", field, index++)); !done) {
                return fail(done.error());
            }
            if (stopped_) return *stopped_;
        }
        known_.insert(inputs_.service_variables.begin(), inputs_.service_variables.end());
        return EnvironmentOutcome(std::move(known_));
    }

  private:
    using Key = std::pair<LocalKind, std::string>;

    // nullptr when the object may be absent and is, or when the outcome is already decided.
    Result<const Json*> object(LocalKind kind, const std::string& name, bool optional) {
        const auto [entry, fresh] = objects_.try_emplace(Key{kind, name});
        if (fresh) {
            auto fetched = inputs_.lookup(kind, name);
            if (fetched) {
                entry->second = std::move(*fetched);
            } else {
                objects_.erase(entry);
                const Error& error = fetched.error();
                if (error.kind == ErrorKind::NotFound) {
                    if (!optional) block(fmt::format("{} \"{}\" not found", word(kind), name));
                    return nullptr;
                }
                if (error.kind == ErrorKind::Forbidden) {
                    block(error.message);
                    return nullptr;
                }
                return fail(error.with_context(fmt::format("reading {} {}", word(kind), name)));
            }
        }
        return &entry->second;
    }

    Result<void> add_all(const Json& source, const std::string& field) {
        const bool map = source.contains("configMapRef"), secret = source.contains("secretRef");
        if (!map && !secret) {
            refuse(field, "names no source that this version knows (configMapRef, secretRef)");
            return {};
        }
        const LocalKind kind = map ? LocalKind::ConfigMap : LocalKind::Secret;
        const Json& reference = source[map ? "configMapRef" : "secretRef"];
        auto found = object(kind, string_at(reference, {"name"}), bool_at(reference, {"optional"}));
        if (!found) return fail(found.error());
        if (*found == nullptr) return {};
        const std::string prefix = string_at(source, {"prefix"});
        for (const auto& [key, unused] : object_at(**found, {"data"}).items()) {
            if (auto value = data(kind, **found, key)) known_[prefix + key] = std::move(*value);
        }
        return {};
    }

    Result<void> add_one(const Json& variable, const std::string& field) {
        const std::string name = string_at(variable, {"name"});
        const std::string value = string_at(variable, {"value"});
        const Json& from = at(variable, {"valueFrom"});
        if (!value.empty() || !from.is_object()) {
            known_[name] = expand(value, [this](const std::string& wanted) {
                const std::string* set = find_in(known_, wanted);
                return set != nullptr ? set : find_in(inputs_.service_variables, wanted);
            });
            return {};
        }
        if (from.contains("configMapKeyRef"))
            return add_key(name, LocalKind::ConfigMap, from["configMapKeyRef"]);
        if (from.contains("secretKeyRef")) return add_key(name, LocalKind::Secret, from["secretKeyRef"]);
        std::optional<std::string> found;
        std::string what =
            "names no source that this version knows (configMapKeyRef, secretKeyRef, fieldRef, "
            "resourceFieldRef)";
        if (from.contains("fieldRef")) {
            const std::string path = string_at(from, {"fieldRef", "fieldPath"});
            found = field_value(inputs_, path);
            what = fmt::format(".fieldRef.fieldPath: \"{}\" cannot be told to a container", path);
        } else if (from.contains("resourceFieldRef")) {
            found = resource_value(inputs_, container_, from["resourceFieldRef"]);
            what = fmt::format(".resourceFieldRef: \"{}\" is no resource of a container that has a value",
                               string_at(from, {"resourceFieldRef", "resource"}));
        }
        if (found) {
            known_[name] = std::move(*found);
        } else {
            refuse(field + ".valueFrom", what);
        }
        return {};
    }

    Result<void> add_key(const std::string& name, LocalKind kind, const Json& reference) {
        const std::string from = string_at(reference, {"name"}), key = string_at(reference, {"key"});
        const bool optional = bool_at(reference, {"optional"});
        auto found = object(kind, from, optional);
        if (!found) return fail(found.error());
        if (*found == nullptr) return {};
        if (auto value = data(kind, **found, key)) {
            known_[name] = std::move(*value);
        } else if (!optional) {
            block(fmt::format("couldn't find key {} in {} {}/{}", key,
                              kind == LocalKind::ConfigMap ? "ConfigMap" : "Secret",
                              string_at(inputs_.pod, {"metadata", "namespace"}), from));
        }
        return {};
    }

    static std::optional<std::string> data(LocalKind kind, const Json& object, const std::string& key) {
        const Json& value = at(object, {"data", key});
        if (!value.is_string()) return std::nullopt;
        if (kind == LocalKind::ConfigMap) return value.get<std::string>();
        auto bytes = base64_decode(value.get_ref<const std::string&>());
        return bytes ? std::optional<std::string>(std::move(*bytes)) : std::nullopt;
    }

    static const char* word(LocalKind kind) { return kind == LocalKind::ConfigMap ? "configmap" : "secret"; }

    void block(const std::string& message) {
        stopped_ = Blocked{"CreateContainerConfigError",
                           message,
                           {string_at(container_, {"name"})},
                           "Failed",
                           "Error: " + message};
    }
    void refuse(const std::string& field, const std::string& what) {
        stopped_ = Refused{"CreateContainerConfigError", field + (what[0] == '.' ? "" : " ") + what};
    }

    const EnvironmentInputs& inputs_;
    const Json& container_;
    Environment known_;
    std::map<Key, Json> objects_;
    std::optional<EnvironmentOutcome> stopped_;
};

}  // namespace

Result<EnvironmentOutcome> resolve_environment(const EnvironmentInputs& inputs, const Json& container,
                                               const std::string& field) {
    return Resolver(inputs, container).run(field);
}

std::string expand_variables(std::string_view text, const Environment& known) {
    return expand(text, [&](const std::string& name) { return find_in(known, name); });
}

std::vector<std::string> expand_all(const Json& strings, const Environment& known) {
    std::vector<std::string> out;
    for (const Json& text : array_at(strings, {})) {
        if (text.is_string()) out.push_back(expand_variables(text.get_ref<const std::string&>(), known));
    }
    return out;
}

std::string pod_hostname(const Json& pod) {
    std::string name = string_at(pod, {"spec", "hostname"});
    if (name.empty()) name = string_at(pod, {"metadata", "name"});
    if (name.size() > 63) {
        name.resize(63);
        while (!name.empty() && (name.back() == '-' || name.back() == '.')) name.pop_back();
    }
    return name;
}

}  // namespace k8sgpu::providers
