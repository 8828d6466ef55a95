#include "common/encoding.h"

#include <openssl/evp.h>
#include <openssl/sha.h>
#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <ctime>

namespace k8sgpu {
namespace {

constexpr std::string_view kStandardAlphabet =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
constexpr std::string_view kUrlAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

std::string encode64(std::string_view bytes, std::string_view alphabet, bool pad) {
    std::string out;
    out.reserve((bytes.size() + 2) / 3 * 4);
    for (std::size_t i = 0; i < bytes.size(); i += 3) {
        const std::size_t left = std::min<std::size_t>(3, bytes.size() - i);
        unsigned group = 0;
        for (std::size_t k = 0; k < 3; ++k) {
            group = group << 8 | (k < left ? static_cast<unsigned char>(bytes[i + k]) : 0U);
        }
        for (std::size_t k = 0; k < 4; ++k) {
            if (k <= left) {
                out += alphabet[group >> (18 - 6 * k) & 63U];
            } else if (pad) {
                out += '=';
            }
        }
    }
    return out;
}

Result<std::string> decode64(std::string_view text, std::string_view alphabet) {
    while (!text.empty() && text.back() == '=') text.remove_suffix(1);
    std::string out;
    out.reserve(text.size() * 3 / 4);
    unsigned bits = 0;
    int held = 0;
    for (const char c : text) {
        const std::size_t value = alphabet.find(c);
        if (value == std::string_view::npos) return fail(ErrorKind::Invalid, "not base64");
        bits = (bits << 6 | static_cast<unsigned>(value)) & 0xffffU;
        held += 6;
        if (held >= 8) {
            held -= 8;
            out += static_cast<char>(bits >> held & 0xffU);
        }
    }
    if (text.size() % 4 == 1) return fail(ErrorKind::Invalid, "not base64: truncated");
    return out;
}

std::string format_utc(WallTime time, std::string_view fraction) {
    const std::time_t seconds =
        std::chrono::system_clock::to_time_t(std::chrono::floor<std::chrono::seconds>(time));
    std::tm parts{};
    gmtime_r(&seconds, &parts);
    return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}{}Z", parts.tm_year + 1900, parts.tm_mon + 1,
                       parts.tm_mday, parts.tm_hour, parts.tm_min, parts.tm_sec, fraction);
}

template <typename Unit>
auto fraction_of(WallTime time) {
    return std::chrono::floor<Unit>(time - std::chrono::floor<std::chrono::seconds>(time)).count();
}

std::optional<int> digits(std::string_view text, std::size_t from, std::size_t count) {
    if (text.size() < from + count) return std::nullopt;
    int value = 0;
    for (std::size_t i = from; i < from + count; ++i) {
        if (text[i] < '0' || text[i] > '9') return std::nullopt;
        value = value * 10 + (text[i] - '0');
    }
    return value;
}

}  // namespace

std::string base64_encode(std::string_view bytes) {
    return encode64(bytes, kStandardAlphabet, true);
}
std::string base64url_encode(std::string_view bytes) {
    return encode64(bytes, kUrlAlphabet, false);
}
Result<std::string> base64_decode(std::string_view text) {
    return decode64(text, kStandardAlphabet);
}
Result<std::string> base64url_decode(std::string_view text) {
    return decode64(text, kUrlAlphabet);
}

std::string rfc3339_seconds(WallTime time) {
    return format_utc(time, "");
}
std::string rfc3339_micros(WallTime time) {
    return format_utc(time, fmt::format(".{:06}", fraction_of<std::chrono::microseconds>(time)));
}
std::string rfc3339_nanos(WallTime time) {
    return format_utc(time, fmt::format(".{:09}", fraction_of<std::chrono::nanoseconds>(time)));
}

std::optional<WallTime> parse_rfc3339(std::string_view text) {
    const auto year = digits(text, 0, 4), month = digits(text, 5, 2), day = digits(text, 8, 2);
    const auto hour = digits(text, 11, 2), minute = digits(text, 14, 2), second = digits(text, 17, 2);
    if (!year || !month || !day || !hour || !minute || !second) return std::nullopt;
    if (text[4] != '-' || text[7] != '-' || (text[10] != 'T' && text[10] != 't')) return std::nullopt;
    if (text[13] != ':' || text[16] != ':' || *hour > 23 || *minute > 59 || *second > 60) return std::nullopt;
    const std::chrono::year_month_day date{std::chrono::year(*year),
                                           std::chrono::month(static_cast<unsigned>(*month)),
                                           std::chrono::day(static_cast<unsigned>(*day))};
    if (!date.ok()) return std::nullopt;

    std::size_t i = 19;
    std::int64_t nanos = 0;
    if (i < text.size() && text[i] == '.') {
        std::int64_t unit = 100'000'000;
        const std::size_t first = ++i;
        for (; i < text.size() && text[i] >= '0' && text[i] <= '9'; ++i) {
            nanos += (text[i] - '0') * unit;
            unit /= 10;
        }
        if (i == first) return std::nullopt;
    }
    std::chrono::minutes offset{0};
    const std::string_view zone = text.substr(i);
    if (zone != "Z" && zone != "z") {
        const auto h = digits(zone, 1, 2), m = digits(zone, 4, 2);
        if (zone.size() != 6 || (zone[0] != '+' && zone[0] != '-') || zone[3] != ':' || !h || !m)
            return std::nullopt;
        offset = std::chrono::hours(*h) + std::chrono::minutes(*m);
        if (zone[0] == '-') offset = -offset;
    }
    const std::chrono::sys_seconds whole = std::chrono::sys_days(date) + std::chrono::hours(*hour) +
                                           std::chrono::minutes(*minute) + std::chrono::seconds(*second) -
                                           offset;
    // WallTime counts nanoseconds and ends in 1677 and 2262, but Go's zero time is of the year 1 and a
    // certificate without an end ends in 9999: the nearest year that leaves room to calculate stands for
    // those beyond.
    constexpr std::chrono::sys_seconds kFirst = std::chrono::sys_days(std::chrono::year(1678) / 1 / 1);
    constexpr std::chrono::sys_seconds kLast = std::chrono::sys_days(std::chrono::year(2262) / 1 / 1);
    return std::clamp(whole, kFirst, kLast) + std::chrono::nanoseconds(nanos);
}

std::string url_encode(std::string_view text) {
    std::string out;
    for (const char c : text) {
        const bool unreserved = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                                c == '-' || c == '.' || c == '_' || c == '~';
        if (unreserved) {
            out += c;
        } else {
            out += fmt::format("%{:02X}", static_cast<unsigned char>(c));
        }
    }
    return out;
}

std::optional<std::string> url_decode(std::string_view text, bool plus_is_space) {
    std::string out;
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (text[i] == '%') {
            unsigned value = 0;
            if (i + 2 >= text.size()) return std::nullopt;
            const auto parsed = std::from_chars(text.data() + i + 1, text.data() + i + 3, value, 16);
            if (parsed.ec != std::errc{} || parsed.ptr != text.data() + i + 3) return std::nullopt;
            out += static_cast<char>(value);
            i += 2;
        } else {
            out += plus_is_space && text[i] == '+' ? ' ' : text[i];
        }
    }
    return out;
}

std::string hex_encode(std::string_view bytes) {
    std::string out;
    for (const char c : bytes) out += fmt::format("{:02x}", static_cast<unsigned char>(c));
    return out;
}

std::string sha256(std::string_view bytes) {
    std::array<unsigned char, SHA256_DIGEST_LENGTH> digest{};
    unsigned size = 0;
    EVP_Digest(bytes.data(), bytes.size(), digest.data(), &size, EVP_sha256(), nullptr);
    return {reinterpret_cast<const char*>(digest.data()), size};
}

}  // namespace k8sgpu
