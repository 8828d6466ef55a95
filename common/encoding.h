// Text forms of bytes and times that several folders need. Pure; any thread.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "common/clock.h"
#include "common/result.h"

namespace k8sgpu {

std::string base64_encode(std::string_view bytes);         // standard alphabet, padded (RFC 4648 §4)
std::string base64url_encode(std::string_view bytes);      // URL alphabet, no padding (RFC 4648 §5)
Result<std::string> base64_decode(std::string_view text);  // padded or not; Invalid on any other byte
Result<std::string> base64url_decode(std::string_view text);

// RFC 3339 in UTC. Seconds are what metav1.Time carries, microseconds metav1.MicroTime (Lease), nanoseconds a
// log line's stamp.
std::string rfc3339_seconds(WallTime time);
std::string rfc3339_micros(WallTime time);
std::string rfc3339_nanos(WallTime time);
std::optional<WallTime> parse_rfc3339(std::string_view text);  // any offset, any number of fraction digits

std::string url_encode(std::string_view text);  // everything but RFC 3986 unreserved characters
std::optional<std::string> url_decode(std::string_view text, bool plus_is_space);

std::string hex_encode(std::string_view bytes);
std::string sha256(std::string_view bytes);  // 32 raw bytes

}  // namespace k8sgpu
