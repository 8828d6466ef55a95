// Kubernetes objects for tests: pods as a scheduler leaves them, and the server's side of a strategic merge
// patch, as far as this node's patches need it. Pure.
#pragma once

#include <string>
#include <string_view>

#include "common/json.h"

namespace k8sgpu::simulation {

inline Json make_pod(const std::string& name, const std::string& uid) {
    return {
        {"metadata",
         {{"namespace", "default"},
          {"name", name},
          {"uid", uid},
          {"resourceVersion", "1"},
          {"generation", 1}}},
        {"spec",
         {{"containers", Json::array({{{"name", "main"}, {"image", "app:1"}}})}, {"nodeName", "k8s.gpu"}}},
        {"status", {{"phase", "Pending"}, {"qosClass", "BestEffort"}}}};
}

// Lists with a merge key are merged by it, others replaced; null removes.
inline void strategic_merge(Json& target, const Json& patch);

inline void merge_list_by(Json& target, const Json& patch, std::string_view key) {
    if (!target.is_array()) target = Json::array();
    for (const Json& change : patch) {
        if (change.contains("$patch")) {  // only `replace` is in use
            target = Json::array();
            continue;
        }
        Json* found = nullptr;
        for (Json& entry : target) {
            if (at(entry, {key}) == at(change, {key})) found = &entry;
        }
        if (found == nullptr) {
            target.push_back(Json::object());
            found = &target.back();
        }
        strategic_merge(*found, change);
    }
}

inline void strategic_merge(Json& target, const Json& patch) {
    if (!target.is_object()) target = Json::object();
    for (const auto& [key, value] : patch.items()) {
        if (value.is_null()) {
            target.erase(key);
        } else if (value.is_object()) {
            strategic_merge(target[key], value);
        } else if (key == "conditions" || key == "addresses") {
            merge_list_by(target[key], value, "type");
        } else if (key == "podIPs" || key == "hostIPs") {
            merge_list_by(target[key], value, "ip");
        } else if (key == "containerStatuses") {
            target[key] = value;  // atomic, as the API declares them
        } else if (value.is_array() && !value.empty() && value.front().contains("$patch")) {
            Json list = value;
            list.erase(list.begin());
            target[key] = std::move(list);
        } else {
            target[key] = value;
        }
    }
}

}  // namespace k8sgpu::simulation
