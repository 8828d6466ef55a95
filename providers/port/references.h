// Which ConfigMaps and Secrets a pod names, and where. Pure; any thread.
//
// Covered: env, envFrom, volumes of the types configMap, secret and projected, imagePullSecrets; init,
// regular and ephemeral containers. Only what is listed here may ever be read from the local cluster for a
// pod.
#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "common/json.h"
#include "providers/port/local_objects.h"

namespace k8sgpu::providers {

enum class ReferenceUse { Env, EnvFrom, Volume, ImagePullSecret };

struct ObjectReference {
    LocalKind kind = LocalKind::ConfigMap;
    std::string name;
    ReferenceUse use = ReferenceUse::Env;
    // True when the pod may run without the object (or without the keys that it names). An imagePullSecret
    // always is: the kubelet tries the pull without it.
    bool optional = false;
    std::vector<std::string> keys;  // empty: all of them
    std::string container;          // Env and EnvFrom: whose
    std::string volume;             // Volume: which
    std::string field;              // "spec.containers[0].envFrom[1].configMapRef", for messages
};

// In the order of the pod's fields; one entry per use, so a name may repeat. References without a name, which
// the API server refuses, are left out.
std::vector<ObjectReference> collect_references(const Json& pod);

// Each object once; true when every use of it is optional.
std::map<std::pair<LocalKind, std::string>, bool> distinct_objects(
    const std::vector<ObjectReference>& references);

}  // namespace k8sgpu::providers
