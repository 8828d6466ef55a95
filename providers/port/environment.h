// A container's environment, command and arguments as the kubelet computes them (kubelet-contract §5.12).
// Pure; any thread. Nothing here goes to the network: objects come through a lookup function.
//
// Order: envFrom in order (later wins), env in order (later wins, and over envFrom), then service variables
// for names not set. `$(NAME)` in a value sees everything set so far and the service variables; `$$` is `$`.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "common/json.h"
#include "providers/port/local_objects.h"
#include "providers/port/provider.h"
#include "providers/port/references.h"

namespace k8sgpu::providers {

// What the downward API tells about the node and about where the pod runs.
struct NodeFacts {
    std::string name;
    std::vector<std::string> host_ips;               // first = status.hostIP; may be empty
    std::map<std::string, std::string> allocatable;  // resource name → quantity
};

// NotFound means surely absent. The namespace is always the pod's own.
using ObjectLookup = std::function<Result<Json>(LocalKind kind, const std::string& name)>;

using Environment = std::map<std::string, std::string>;

struct EnvironmentInputs {
    const Json& pod;
    const NodeFacts& node;
    std::vector<std::string> pod_ips;  // status.podIP(s); empty when not known yet
    Environment service_variables;     // of the pod's namespace, and of the `kubernetes` Service
    ObjectLookup lookup;
};

// Blocked: an object or key is missing, or may not be read, and the kubelet would wait for it (its texts,
// CreateContainerConfigError). Refused: a source that this code does not know; the message names the field.
// `field` is the container's place in the pod ("spec.containers[0]"). Errors: what the lookup returned,
// except NotFound and Forbidden.
using EnvironmentOutcome = std::variant<Environment, Blocked, Refused>;
Result<EnvironmentOutcome> resolve_environment(const EnvironmentInputs& inputs, const Json& container,
                                               const std::string& field);

// `$(NAME)` → value where known, else left as it is; `$$` → `$`. Not shell syntax.
std::string expand_variables(std::string_view text, const Environment& known);
// Every element of an array of strings (command or args), expanded.
std::vector<std::string> expand_all(const Json& strings, const Environment& known);

// The pod's host name: spec.hostname or metadata.name, at most 63 characters (§5.14).
std::string pod_hostname(const Json& pod);

}  // namespace k8sgpu::providers
