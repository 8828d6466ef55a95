#include "providers/kubernetes/create_errors.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

namespace k8sgpu::providers::kubernetes {
namespace {

bool contains(std::string_view text, std::string_view part) {
    return text.find(part) != std::string_view::npos;
}

// Denials of admission that no waiting heals. Everything else that is forbidden waits: RBAC, quota, a
// namespace that is being deleted, and whatever a newer server says; a wrong wait costs nothing, a wrong
// refusal a pod.
bool is_final_denial(std::string_view message) {
    static constexpr std::array<std::string_view, 3> kFinal = {
        "violates PodSecurity",
        "denied the request",  // an admission webhook or policy
        "failed quota",        // the pod lacks a request or limit that the quota demands
    };
    if (contains(message, "RuntimeClass") && contains(message, "not found")) return true;
    return std::any_of(kFinal.begin(), kFinal.end(),
                       [&](std::string_view f) { return contains(message, f); });
}

std::string_view waiting_reason(const Error& error) {
    if (contains(error.message, "exceeded quota")) return "RemoteQuotaExceeded";
    if (error.kind == ErrorKind::Unauthorized) return "RemoteUnauthorized";
    if (error.kind == ErrorKind::NotFound) return "RemoteNamespaceNotFound";
    return "RemoteForbidden";
}

}  // namespace

Result<EnsureOutcome> outcome_of_create_error(const Error& error, std::string_view what) {
    const std::string message =
        fmt::format("the remote cluster did not accept the {}: {}", what, error.message);
    switch (error.kind) {
        case ErrorKind::Invalid:
            return EnsureOutcome(Refused{"RemoteRejected", message});
        case ErrorKind::Forbidden:
            if (is_final_denial(error.message)) return EnsureOutcome(Refused{"RemoteRejected", message});
            break;
        case ErrorKind::Unauthorized:
        case ErrorKind::NotFound:
            break;
        default:
            return fail(error.with_context(fmt::format("creating the {}", what)));
    }
    return EnsureOutcome(Blocked{std::string(waiting_reason(error)), message, {}, "FailedCreate", message});
}

}  // namespace k8sgpu::providers::kubernetes
