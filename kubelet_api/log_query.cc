#include "kubelet_api/log_query.h"

#include <charconv>

#include "common/encoding.h"

namespace k8sgpu::kubelet_api {

namespace {

// Base 10 with an optional sign, the whole text, in range.
std::optional<std::int64_t> parse_int(std::string_view text) {
    if (text.starts_with('+')) text.remove_prefix(1);
    std::int64_t value = 0;
    const auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (status != std::errc() || end != text.data() + text.size()) return std::nullopt;
    return value;
}

// False when the key is there and does not parse.
bool read_int(const Query& query, std::string_view key, std::optional<std::int64_t>& out) {
    const auto text = query.first(key);
    if (!text) return true;
    out = parse_int(*text);
    return out.has_value();
}

}  // namespace

Result<providers::LogRequest> decode_log_query(const Query& query) {
    const auto undecodable =
        fail(Error{ErrorKind::Invalid, R"({"message": "Unable to decode query."})", 400, {}});
    const auto invalid = fail(Error{ErrorKind::Invalid, R"({"message": "Invalid request."})", 422, {}});

    providers::LogRequest request;
    request.follow = query.flag("follow");
    request.previous = query.flag("previous");
    request.timestamps = query.flag("timestamps");
    if (!read_int(query, "tailLines", request.tail_lines)) return undecodable;
    if (!read_int(query, "limitBytes", request.limit_bytes)) return undecodable;
    if (!read_int(query, "sinceSeconds", request.since_seconds)) return undecodable;
    // The older spelling wins.
    if (const auto tail = query.first("tail"); tail && !tail->empty()) {
        request.tail_lines = parse_int(*tail);
        if (!request.tail_lines && *tail != "all") return undecodable;
    }
    if (const auto since = query.first("sinceTime"); since && !since->empty() && *since != "null") {
        request.since_time = parse_rfc3339(*since);
        if (!request.since_time) return undecodable;
    }
    const std::string stream = query.first("stream").value_or("All");
    if (stream != "All" && stream != "Stdout" && stream != "Stderr") return invalid;
    if (stream == "Stdout") request.streams = providers::LogStreams::Stdout;
    if (stream == "Stderr") request.streams = providers::LogStreams::Stderr;
    if (stream != "All" && request.tail_lines) return invalid;
    if (request.tail_lines && *request.tail_lines < 0) return invalid;
    if (request.limit_bytes && *request.limit_bytes < 1) return invalid;
    if (request.since_seconds && *request.since_seconds < 1) return invalid;
    if (request.since_seconds && request.since_time) return invalid;
    return request;
}

}  // namespace k8sgpu::kubelet_api
