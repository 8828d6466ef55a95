#include "vnode/option_values.h"

#include <arpa/inet.h>
#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <charconv>

namespace k8sgpu::vnode {

Result<void> set_bool(bool& target, const std::string& text) {
    if (text == "true" || text == "1") {
        target = true;
    } else if (text == "false" || text == "0") {
        target = false;
    } else {
        return fail(ErrorKind::Invalid, fmt::format("\"{}\" is neither true nor false", text));
    }
    return {};
}

Result<void> set_port(std::uint16_t& target, const std::string& text) {
    unsigned value = 0;
    const auto parsed = std::from_chars(text.data(), text.data() + text.size(), value);
    if (parsed.ec != std::errc{} || parsed.ptr != text.data() + text.size() || value == 0 || value > 65535) {
        return fail(ErrorKind::Invalid,
                    fmt::format("\"{}\" is not a port; write a number from 1 to 65535", text));
    }
    target = static_cast<std::uint16_t>(value);
    return {};
}

Result<void> set_ip(std::string& target, const std::string& text) {
    unsigned char buffer[16];
    if (inet_pton(AF_INET, text.c_str(), buffer) != 1 && inet_pton(AF_INET6, text.c_str(), buffer) != 1) {
        return fail(ErrorKind::Invalid, fmt::format("\"{}\" is not an IPv4 or IPv6 address", text));
    }
    target = text;
    return {};
}

Result<void> set_object_name(std::string& target, const std::string& text) {
    const auto allowed = [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.';
    };
    const auto edge = [](char c) { return c != '-' && c != '.'; };
    if (text.empty() || text.size() > 253 || !std::all_of(text.begin(), text.end(), allowed) ||
        !edge(text.front()) || !edge(text.back())) {
        return fail(
            ErrorKind::Invalid,
            fmt::format(
                "\"{}\" is not a Kubernetes name: lower-case letters, digits, '-' and '.', at most 253",
                text));
    }
    target = text;
    return {};
}

Result<void> set_duration(Duration& target, const std::string& text) {
    constexpr Duration kLongest = std::chrono::hours(24 * 7);
    const auto refuse = [&] {
        return fail(ErrorKind::Invalid,
                    fmt::format("\"{}\" is not a duration; write 90s, 5m or 1h30m, at most 168h", text));
    };
    Duration sum{0};
    const char* at = text.data();
    const char* const end = at + text.size();
    if (at == end) return refuse();
    while (at != end) {
        unsigned number = 0;
        const auto parsed = std::from_chars(at, end, number);
        if (parsed.ec != std::errc{} || number > 604'800) return refuse();
        at = parsed.ptr;
        if (at == end && text == "0") break;
        if (at == end) return refuse();
        const char unit = *at++;
        if (unit != 's' && unit != 'm' && unit != 'h') return refuse();
        sum += std::chrono::seconds(number) * (unit == 's' ? 1 : unit == 'm' ? 60 : 3600);
        if (sum > kLongest) return refuse();
    }
    target = sum;
    return {};
}

}  // namespace k8sgpu::vnode
