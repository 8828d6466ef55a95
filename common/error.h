// The error that every fallible call of ours returns. Callers decide on `kind`, people read `message`.
//
// Kinds are named for the decision they cause, not for the layer they come from: a refused connection, a 503
// and an overloaded provider are all Unavailable, because all of them are retried later.
// Plain values; any thread.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <string_view>

namespace k8sgpu {

enum class ErrorKind {
    NotFound,       // the thing is not there; for a delete that means done
    AlreadyExists,  // a create met an object of that name
    Conflict,      // somebody changed the object, or a precondition (UID, version) failed: read again, decide
                   // again
    Gone,          // the resource version is too old: list again
    Unauthorized,  // credentials missing, wrong or expired: reload them, tell somebody
    Forbidden,     // we may not; only a change of permissions heals it
    Invalid,       // the request is wrong; repeating it is useless
    Throttled,     // wait `retry_after`, then repeat
    Unavailable,   // peer unreachable or failing (refused, reset, DNS, 5xx): repeat with back-off
    Timeout,       // the deadline passed; the effect is unknown
    Cancelled,     // our own stop token asked; never an error to report
    Unsupported,   // this peer or provider cannot do it
    Protocol,      // the peer sent bytes that make no sense
    TlsFailure,    // certificate or handshake refused: a matter of configuration
    Internal,      // a bug or a local failure (disk full, no descriptors)
};

std::string_view to_string(ErrorKind kind);

// True for what time alone may heal (Throttled, Unavailable, Timeout, Conflict, Gone).
bool is_retryable(ErrorKind kind);

struct Error {
    ErrorKind kind = ErrorKind::Internal;
    std::string message;  // lower case, no full stop, never a secret
    std::optional<int> http_status = {};
    std::optional<std::chrono::milliseconds> retry_after = {};

    // "creating pod a/b: connection refused": prepends what was being done, keeps the rest.
    [[nodiscard]] Error with_context(std::string_view doing) const;
};

}  // namespace k8sgpu
