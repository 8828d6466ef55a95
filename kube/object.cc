#include "kube/object.h"

#include "common/encoding.h"

namespace k8sgpu::kube {

std::string name_of(const Json& object) {
    return string_at(object, {"metadata", "name"});
}
std::string namespace_of(const Json& object) {
    return string_at(object, {"metadata", "namespace"});
}
std::string uid_of(const Json& object) {
    return string_at(object, {"metadata", "uid"});
}
std::string resource_version_of(const Json& object) {
    return string_at(object, {"metadata", "resourceVersion"});
}
PodId pod_id(const Json& pod) {
    return {namespace_of(pod), name_of(pod), uid_of(pod)};
}

bool is_deleting(const Json& object) {
    return !string_at(object, {"metadata", "deletionTimestamp"}).empty();
}

std::string label_of(const Json& object, std::string_view key) {
    return string_at(object, {"metadata", "labels", key});
}
std::string annotation_of(const Json& object, std::string_view key) {
    return string_at(object, {"metadata", "annotations", key});
}

std::string owner_kind(const Json& object) {
    for (const Json& owner : array_at(object, {"metadata", "ownerReferences"})) {
        if (bool_at(owner, {"controller"})) return string_at(owner, {"kind"});
    }
    return "";
}

const Json& find_condition(const Json& object, std::string_view type) {
    static const Json absent;
    for (const Json& condition : array_at(object, {"status", "conditions"})) {
        if (string_at(condition, {"type"}) == type) return condition;
    }
    return absent;
}

bool condition_is_true(const Json& object, std::string_view type) {
    return string_at(find_condition(object, type), {"status"}) == "True";
}

bool set_condition(Json& conditions, const Condition& wanted, WallTime now) {
    if (!conditions.is_array()) conditions = Json::array();
    Json* entry = nullptr;
    for (Json& condition : conditions) {
        if (string_at(condition, {"type"}) == wanted.type) entry = &condition;
    }
    if (entry == nullptr) {
        conditions.push_back({{"type", wanted.type}});
        entry = &conditions.back();
    }
    bool changed = false;
    const auto put = [&](const char* field, const std::string& value) {
        if (string_at(*entry, {field}) == value && entry->contains(field)) return false;
        if (value.empty() && !entry->contains(field)) return false;
        (*entry)[field] = value;
        changed = true;
        return true;
    };
    if (put("status", wanted.status)) (*entry)["lastTransitionTime"] = rfc3339_seconds(now);
    put("reason", wanted.reason);
    put("message", wanted.message);
    return changed;
}

Json owner_reference(const Json& owner) {
    return {{"apiVersion", string_at(owner, {"apiVersion"})},
            {"kind", string_at(owner, {"kind"})},
            {"name", name_of(owner)},
            {"uid", uid_of(owner)},
            {"controller", false}};
}

}  // namespace k8sgpu::kube
