#include "providers/port/references.h"

#include <fmt/format.h>

namespace k8sgpu::providers {
namespace {

using References = std::vector<ObjectReference>;

void add(References& out, ObjectReference reference) {
    if (!reference.name.empty()) out.push_back(std::move(reference));
}

void collect_container(const Json& container, const std::string& field, References& out) {
    const std::string name = string_at(container, {"name"});
    std::size_t index = 0;
    for (const Json& source : array_at(container, {"envFrom"})) {
        const std::string here = fmt::format("{}.envFrom[{}]", field, index++);
        for (const auto& [key, kind] :
             {std::pair{"configMapRef", LocalKind::ConfigMap}, std::pair{"secretRef", LocalKind::Secret}}) {
            add(out, {kind,
                      string_at(source, {key, "name"}),
                      ReferenceUse::EnvFrom,
                      bool_at(source, {key, "optional"}),
                      {},
                      name,
                      {},
                      here + "." + key});
        }
    }
    index = 0;
    for (const Json& variable : array_at(container, {"env"})) {
        const std::string here = fmt::format("{}.env[{}].valueFrom", field, index++);
        for (const auto& [key, kind] : {std::pair{"configMapKeyRef", LocalKind::ConfigMap},
                                        std::pair{"secretKeyRef", LocalKind::Secret}}) {
            add(out, {kind,
                      string_at(variable, {"valueFrom", key, "name"}),
                      ReferenceUse::Env,
                      bool_at(variable, {"valueFrom", key, "optional"}),
                      {string_at(variable, {"valueFrom", key, "key"})},
                      name,
                      {},
                      here + "." + key});
        }
    }
}

std::vector<std::string> item_keys(const Json& source) {
    std::vector<std::string> keys;
    for (const Json& item : array_at(source, {"items"})) keys.push_back(string_at(item, {"key"}));
    return keys;
}

void collect_volume(const Json& volume, const std::string& field, References& out) {
    const std::string name = string_at(volume, {"name"});
    const auto add_source = [&](const Json& source, LocalKind kind, const char* name_field,
                                std::string where) {
        add(out, {kind,
                  string_at(source, {name_field}),
                  ReferenceUse::Volume,
                  bool_at(source, {"optional"}),
                  item_keys(source),
                  {},
                  name,
                  std::move(where)});
    };
    add_source(at(volume, {"configMap"}), LocalKind::ConfigMap, "name", field + ".configMap");
    // A Secret volume alone calls it secretName; a projected source says name.
    add_source(at(volume, {"secret"}), LocalKind::Secret, "secretName", field + ".secret");
    std::size_t index = 0;
    for (const Json& source : array_at(volume, {"projected", "sources"})) {
        const std::string here = fmt::format("{}.projected.sources[{}]", field, index++);
        add_source(at(source, {"configMap"}), LocalKind::ConfigMap, "name", here + ".configMap");
        add_source(at(source, {"secret"}), LocalKind::Secret, "name", here + ".secret");
    }
}

}  // namespace

std::vector<ObjectReference> collect_references(const Json& pod) {
    References out;
    for (const char* list : {"initContainers", "containers", "ephemeralContainers"}) {
        std::size_t index = 0;
        for (const Json& container : array_at(pod, {"spec", list})) {
            collect_container(container, fmt::format("spec.{}[{}]", list, index++), out);
        }
    }
    std::size_t index = 0;
    for (const Json& volume : array_at(pod, {"spec", "volumes"})) {
        collect_volume(volume, fmt::format("spec.volumes[{}]", index++), out);
    }
    index = 0;
    for (const Json& secret : array_at(pod, {"spec", "imagePullSecrets"})) {
        add(out, {LocalKind::Secret,
                  string_at(secret, {"name"}),
                  ReferenceUse::ImagePullSecret,
                  true,
                  {},
                  {},
                  {},
                  fmt::format("spec.imagePullSecrets[{}]", index++)});
    }
    return out;
}

std::map<std::pair<LocalKind, std::string>, bool> distinct_objects(
    const std::vector<ObjectReference>& references) {
    std::map<std::pair<LocalKind, std::string>, bool> objects;
    for (const ObjectReference& reference : references) {
        const auto [entry, fresh] = objects.try_emplace({reference.kind, reference.name}, reference.optional);
        if (!fresh) entry->second = entry->second && reference.optional;
    }
    return objects;
}

}  // namespace k8sgpu::providers
