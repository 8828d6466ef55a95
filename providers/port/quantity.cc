#include "providers/port/quantity.h"

#include <limits>
#include <optional>
#include <string>

namespace k8sgpu::providers {
namespace {

__extension__ using Wide = __int128;

constexpr Wide kMax = std::numeric_limits<std::int64_t>::max();
// Mantissas stop growing here: any further digit changes neither a saturated value nor a ceiling we can show.
constexpr Wide kMantissaLimit = kMax / 10 - 1;

struct Scale {
    int decimal = 0;  // power of ten
    int binary = 0;   // power of two
};

std::optional<int> exponent(std::string_view digits) {
    if (!digits.empty() && (digits[0] == '+' || digits[0] == '-')) {
        const auto rest = exponent(digits.substr(1));
        return rest && digits[0] == '-' ? std::optional<int>(-*rest) : rest;
    }
    if (digits.empty() || digits.size() > 4) return std::nullopt;
    int value = 0;
    for (const char c : digits) {
        if (c < '0' || c > '9') return std::nullopt;
        value = value * 10 + (c - '0');
    }
    return value;
}

std::optional<Scale> suffix_scale(std::string_view suffix) {
    constexpr std::string_view kDecimal = "numkMGTPE";
    constexpr int kPowers[] = {-9, -6, -3, 3, 6, 9, 12, 15, 18};
    constexpr std::string_view kBinary = "KMGTPE";
    if (suffix.empty()) return Scale{};
    if (suffix.size() == 1) {
        const auto found = kDecimal.find(suffix[0]);
        if (found != std::string_view::npos) return Scale{kPowers[found], 0};
    }
    if (suffix.size() == 2 && suffix[1] == 'i') {
        const auto found = kBinary.find(suffix[0]);
        if (found != std::string_view::npos) return Scale{0, 10 * (static_cast<int>(found) + 1)};
    }
    if (suffix[0] == 'e' || suffix[0] == 'E') {
        if (const auto power = exponent(suffix.substr(1))) return Scale{*power, 0};
    }
    return std::nullopt;
}

Wide saturating_multiply(Wide value, Wide factor) {
    return value > (Wide{1} << 120U) / factor ? Wide{1} << 120U : value * factor;
}

}  // namespace

Result<std::int64_t> quantity_in(std::string_view text, QuantityUnit unit) {
    const auto invalid = [&] {
        return fail(ErrorKind::Invalid, "not a quantity: \"" + std::string(text) + "\"");
    };
    std::string_view rest = text;
    bool negative = false;
    if (!rest.empty() && (rest[0] == '-' || rest[0] == '+')) {
        negative = rest[0] == '-';
        rest.remove_prefix(1);
    }
    Wide mantissa = 0;
    int decimal = 0;
    bool fraction = false, digits = false, lost = false;
    while (!rest.empty() && ((rest[0] >= '0' && rest[0] <= '9') || (rest[0] == '.' && !fraction))) {
        if (rest[0] == '.') {
            fraction = true;
        } else if (mantissa < kMantissaLimit) {
            mantissa = mantissa * 10 + (rest[0] - '0');
            decimal -= fraction ? 1 : 0;
            digits = true;
        } else {
            lost = lost || rest[0] != '0';
            decimal += fraction ? 0 : 1;
        }
        rest.remove_prefix(1);
    }
    const auto scale = suffix_scale(rest);
    if (!digits || !scale) return invalid();
    decimal += scale->decimal + (unit == QuantityUnit::Milli ? 3 : 0);

    Wide value = saturating_multiply(mantissa, Wide{1} << static_cast<unsigned>(scale->binary));
    bool remainder = lost;
    for (; decimal > 0 && value != 0 && value <= kMax; --decimal) value = saturating_multiply(value, 10);
    for (; decimal < 0 && (value != 0 || remainder); ++decimal) {
        remainder = remainder || value % 10 != 0;
        value /= 10;
        if (value == 0) break;
    }
    // A negative number rounds towards zero when it rounds up.
    if (remainder && !negative) ++value;
    if (value > kMax) value = kMax;
    return static_cast<std::int64_t>(negative ? -value : value);
}

}  // namespace k8sgpu::providers
