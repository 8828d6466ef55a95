#include "providers/kubernetes/update.h"

#include <algorithm>
#include <string>
#include <string_view>

#include "kube/object.h"
#include "providers/kubernetes/owner_mark.h"

namespace k8sgpu::providers::kubernetes {
namespace {

// Entries of `wanted` that differ from `present`, and nulls for carried keys that `wanted` has no more.
Json map_patch(const Json& present, const Json& wanted, std::string_view carried) {
    Json patch = Json::object();
    for (const auto& [key, value] : wanted.items()) {
        if (!present.contains(key) || present[key] != value) patch[key] = value;
    }
    while (!carried.empty()) {
        const std::size_t comma = carried.find(',');
        const std::string key(carried.substr(0, comma));
        if (present.contains(key) && !wanted.contains(key)) patch[key] = nullptr;
        carried = comma == std::string_view::npos ? "" : carried.substr(comma + 1);
    }
    return patch;
}

Json image_patches(const Json& remote, const Json& wanted, const char* list) {
    Json patches = Json::array();
    for (const Json& container : array_at(wanted, {"spec", list})) {
        for (const Json& present : array_at(remote, {"spec", list})) {
            const std::string name = string_at(container, {"name"});
            const std::string image = string_at(container, {"image"});
            if (string_at(present, {"name"}) == name && string_at(present, {"image"}) != image) {
                patches.push_back({{"name", name}, {"image", image}});
            }
        }
    }
    return patches;
}

Json with_uid(Json patch, const Json& remote) {
    patch["metadata"]["uid"] = kube::uid_of(remote);
    return patch;
}

const Json* container_named(const Json& containers, const std::string& name) {
    const auto found = std::find_if(containers.begin(), containers.end(),
                                    [&](const Json& c) { return string_at(c, {"name"}) == name; });
    return found == containers.end() ? nullptr : &*found;
}

// The stated cpu and memory that differ.
Json resources_patch(const Json& present, const Json& wanted) {
    Json patch = Json::object();
    for (const char* kind : {"requests", "limits"}) {
        for (const char* name : {"cpu", "memory"}) {
            const Json& value = at(wanted, {"resources", kind, name});
            if (!value.is_null() && value != at(present, {"resources", kind, name}))
                patch[kind][name] = value;
        }
    }
    return patch;
}

// The list with what is missing, or null: tolerations merge as one value.
Json more_tolerations(const Json& remote, const Json& wanted) {
    Json all = array_at(remote, {"spec", "tolerations"});
    const std::size_t before = all.size();
    for (const Json& toleration : array_at(wanted, {"spec", "tolerations"})) {
        if (std::find(all.begin(), all.end(), toleration) == all.end()) all.push_back(toleration);
    }
    return all.size() > before ? all : Json();
}

}  // namespace

std::optional<Json> update_patch(const Json& remote, const Json& wanted) {
    const std::string carried = kube::annotation_of(remote, kCarriedAnnotation);
    const std::size_t border = carried.find(';');
    const std::string_view labels = std::string_view(carried).substr(0, border);
    const std::string_view annotations =
        border == std::string::npos ? std::string_view() : std::string_view(carried).substr(border + 1);

    Json patch = Json::object();
    const auto add_map = [&](const char* map, std::string_view keys) {
        Json entries =
            map_patch(object_at(remote, {"metadata", map}), object_at(wanted, {"metadata", map}), keys);
        if (!entries.empty()) patch["metadata"][map] = std::move(entries);
    };
    add_map("labels", labels);
    add_map("annotations", annotations);
    for (const char* list : {"containers", "initContainers"}) {
        Json images = image_patches(remote, wanted, list);
        if (!images.empty()) patch["spec"][list] = std::move(images);
    }
    // May be set or shortened, never taken away (validation of pod updates).
    const Json& deadline = at(wanted, {"spec", "activeDeadlineSeconds"});
    if (!deadline.is_null() && deadline != at(remote, {"spec", "activeDeadlineSeconds"})) {
        patch["spec"]["activeDeadlineSeconds"] = deadline;
    }
    if (Json tolerations = more_tolerations(remote, wanted); !tolerations.is_null()) {
        patch["spec"]["tolerations"] = std::move(tolerations);
    }
    if (patch.empty()) return std::nullopt;
    return with_uid(std::move(patch), remote);
}

std::optional<Json> resize_patch(const Json& remote, const Json& wanted) {
    Json patch = Json::object();
    for (const char* list : {"containers", "initContainers"}) {
        for (const Json& container : array_at(wanted, {"spec", list})) {
            const std::string name = string_at(container, {"name"});
            const Json* present = container_named(array_at(remote, {"spec", list}), name);
            if (present == nullptr) continue;
            Json resources = resources_patch(*present, container);
            if (resources.empty()) continue;
            patch["spec"][list].push_back({{"name", name}, {"resources", std::move(resources)}});
        }
    }
    if (patch.empty()) return std::nullopt;
    return with_uid(std::move(patch), remote);
}

std::optional<Json> ephemeral_patch(const Json& remote, const Json& containers) {
    Json fresh = Json::array();
    for (const Json& container : containers) {
        const std::string name = string_at(container, {"name"});
        if (container_named(array_at(remote, {"spec", "ephemeralContainers"}), name) == nullptr) {
            fresh.push_back(container);
        }
    }
    if (fresh.empty()) return std::nullopt;
    return with_uid({{"spec", {{"ephemeralContainers", std::move(fresh)}}}}, remote);
}

}  // namespace k8sgpu::providers::kubernetes
