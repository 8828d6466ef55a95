// What the remote server's answer to a create means for the pod. Pure; any thread.
//
//   final (PodSecurity, unknown RuntimeClass, a webhook's no, an invalid object)  → Refused
//   may heal by somebody's action (quota, RBAC, namespace, credentials)           → Blocked, reason shown
//   effect unknown, or the server in trouble (timeout, 5xx, 429, connection)      → the error, retried
//
// Blocked and Refused are only given where the server's answer says that nothing was created.
#pragma once

#include <string_view>

#include "providers/port/provider.h"

namespace k8sgpu::providers::kubernetes {

// `what` was being created: "remote pod", "copy of secret \"s\"".
Result<EnsureOutcome> outcome_of_create_error(const Error& error, std::string_view what);

}  // namespace k8sgpu::providers::kubernetes
