// Small readers and writers on Kubernetes objects held as JSON: metadata, owners, conditions. Missing or
// mistyped fields read as empty. Pure; any thread.
#pragma once

#include <string>
#include <string_view>

#include "common/clock.h"
#include "common/json.h"
#include "common/pod_id.h"

namespace k8sgpu::kube {

std::string name_of(const Json& object);
std::string namespace_of(const Json& object);
std::string uid_of(const Json& object);
std::string resource_version_of(const Json& object);
PodId pod_id(const Json& pod);

// True once somebody asked for its deletion (metadata.deletionTimestamp is set).
bool is_deleting(const Json& object);

// "" when absent. Labels and annotations are plain string maps.
std::string label_of(const Json& object, std::string_view key);
std::string annotation_of(const Json& object, std::string_view key);

// Kind of the owner with controller: true ("DaemonSet", "Job"), "" without one.
std::string owner_kind(const Json& object);

// The entry of status.conditions with that type, or a null value.
const Json& find_condition(const Json& object, std::string_view type);
bool condition_is_true(const Json& object, std::string_view type);

struct Condition {
    std::string type;
    std::string status;  // "True", "False" or "Unknown"
    std::string reason;
    std::string message;
};

// Puts the condition into `conditions` (an array; made one when null). Other entries, and fields of this
// entry that we do not know, stay. lastTransitionTime moves only when the status changes, as every reader of
// conditions expects. True when anything but time stamps changed.
bool set_condition(Json& conditions, const Condition& wanted, WallTime now);

// {"apiVersion", "kind", "name", "uid", "controller": false}: an ownerReference to `owner`.
Json owner_reference(const Json& owner);

}  // namespace k8sgpu::kube
