#include <charconv>
#include <chrono>

#include "common/json.h"
#include "kube/transport.h"

namespace k8sgpu::kube {
namespace {

constexpr std::size_t kMaxPlainMessage = 512;

// The reason says more than the code: 409 is both "already exists" and "conflict", and an expired list is 410
// with either of two reasons (metav1.StatusReason).
std::optional<ErrorKind> kind_of_reason(std::string_view reason) {
    if (reason == "AlreadyExists") return ErrorKind::AlreadyExists;
    if (reason == "Conflict") return ErrorKind::Conflict;
    if (reason == "NotFound") return ErrorKind::NotFound;
    if (reason == "Expired" || reason == "Gone") return ErrorKind::Gone;
    if (reason == "TooManyRequests") return ErrorKind::Throttled;
    if (reason == "Timeout") return ErrorKind::Timeout;
    // The server asks to try again; nothing was done.
    if (reason == "ServerTimeout" || reason == "ServiceUnavailable" || reason == "InternalError")
        return ErrorKind::Unavailable;
    if (reason == "Unauthorized") return ErrorKind::Unauthorized;
    if (reason == "Forbidden") return ErrorKind::Forbidden;
    if (reason == "MethodNotAllowed") return ErrorKind::Unsupported;
    if (reason == "Invalid" || reason == "BadRequest") return ErrorKind::Invalid;
    return std::nullopt;
}

ErrorKind kind_of_status(int status) {
    switch (status) {
        case 401:
            return ErrorKind::Unauthorized;
        case 403:
            return ErrorKind::Forbidden;
        case 404:
            return ErrorKind::NotFound;
        case 405:
        case 501:
            return ErrorKind::Unsupported;
        case 408:
        case 504:
            return ErrorKind::Timeout;
        case 409:
            return ErrorKind::Conflict;
        case 410:
            return ErrorKind::Gone;
        case 429:
            return ErrorKind::Throttled;
        default:
            return status >= 500 ? ErrorKind::Unavailable : ErrorKind::Invalid;
    }
}

// Retry-After in its form of seconds (RFC 9110 §10.2.3); the API server never sends a date. Capped at an
// hour, so that a confused peer cannot put us to sleep for good.
std::optional<std::chrono::milliseconds> retry_after(const Headers& headers, const Json& body) {
    std::int64_t seconds = int_at(body, {"details", "retryAfterSeconds"});
    if (const auto header = headers.find("retry-after"); header != headers.end()) {
        std::int64_t parsed = 0;
        const std::string& text = header->second;
        if (std::from_chars(text.data(), text.data() + text.size(), parsed).ec == std::errc{})
            seconds = parsed;
    }
    if (seconds <= 0) return std::nullopt;
    return std::chrono::seconds(std::min<std::int64_t>(seconds, 3600));
}

// A body that is not a Status (a proxy's page, "404 page not found"): its first line, made printable.
std::string plain_message(int status, const std::string& body) {
    std::string line;
    for (const char c : body.substr(0, kMaxPlainMessage)) {
        if (c == '\n' || c == '\r') {
            if (line.empty()) continue;
            break;
        }
        line += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
    }
    const std::string code = "http status " + std::to_string(status);
    return line.empty() ? code : code + ": " + line;
}

}  // namespace

Error error_from_response(int status, const Headers& headers, const std::string& body) {
    const Json json = parse_json(body, "answer").value_or(nullptr);
    const bool is_status = string_at(json, {"kind"}) == "Status";
    Error error;
    error.http_status = status;
    error.kind = kind_of_status(status);
    if (is_status) {
        if (const auto kind = kind_of_reason(string_at(json, {"reason"}))) error.kind = *kind;
        error.message = string_at(json, {"message"});
    }
    if (error.message.empty()) error.message = plain_message(status, is_status ? "" : body);
    error.retry_after = retry_after(headers, json);
    return error;
}

}  // namespace k8sgpu::kube
