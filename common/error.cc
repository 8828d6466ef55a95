#include "common/error.h"

namespace k8sgpu {

std::string_view to_string(ErrorKind kind) {
    switch (kind) {
        case ErrorKind::NotFound:
            return "NotFound";
        case ErrorKind::AlreadyExists:
            return "AlreadyExists";
        case ErrorKind::Conflict:
            return "Conflict";
        case ErrorKind::Gone:
            return "Gone";
        case ErrorKind::Unauthorized:
            return "Unauthorized";
        case ErrorKind::Forbidden:
            return "Forbidden";
        case ErrorKind::Invalid:
            return "Invalid";
        case ErrorKind::Throttled:
            return "Throttled";
        case ErrorKind::Unavailable:
            return "Unavailable";
        case ErrorKind::Timeout:
            return "Timeout";
        case ErrorKind::Cancelled:
            return "Cancelled";
        case ErrorKind::Unsupported:
            return "Unsupported";
        case ErrorKind::Protocol:
            return "Protocol";
        case ErrorKind::TlsFailure:
            return "TlsFailure";
        case ErrorKind::Internal:
            return "Internal";
    }
    return "Unknown";
}

bool is_retryable(ErrorKind kind) {
    switch (kind) {
        case ErrorKind::Throttled:
        case ErrorKind::Unavailable:
        case ErrorKind::Timeout:
        case ErrorKind::Conflict:
        case ErrorKind::Gone:
            return true;
        default:
            return false;
    }
}

Error Error::with_context(std::string_view doing) const {
    Error copy = *this;
    copy.message.insert(0, std::string(doing) + ": ");
    return copy;
}

}  // namespace k8sgpu
