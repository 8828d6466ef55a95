#include "kube/quantity.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <limits>
#include <optional>

namespace k8sgpu::kube {
namespace {

__extension__ using Wide = __int128;

constexpr Wide kNano = 1'000'000'000;
constexpr Wide kMaxUnits = std::numeric_limits<std::int64_t>::max();
constexpr Wide kLimit = kMaxUnits * kNano;
constexpr std::size_t kMaxText = 64;

struct Suffix {
    std::string_view text;
    int power;  // of ten or of two
};
constexpr std::array<Suffix, 10> kDecimal{{{"n", -9},
                                           {"u", -6},
                                           {"m", -3},
                                           {"", 0},
                                           {"k", 3},
                                           {"M", 6},
                                           {"G", 9},
                                           {"T", 12},
                                           {"P", 15},
                                           {"E", 18}}};
constexpr std::array<Suffix, 6> kBinary{
    {{"Ki", 10}, {"Mi", 20}, {"Gi", 30}, {"Ti", 40}, {"Pi", 50}, {"Ei", 60}}};

bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

Wide divide_up(Wide value, Wide by) {
    return value > 0 ? (value + by - 1) / by : value / by;
}

std::string wide_to_string(Wide value) {
    const bool negative = value < 0;
    std::string digits;
    do {
        const int digit = static_cast<int>(value % 10);
        digits += static_cast<char>('0' + (digit < 0 ? -digit : digit));
        value /= 10;
    } while (value != 0);
    if (negative) digits += '-';
    std::reverse(digits.begin(), digits.end());
    return digits;
}

struct Scale {
    Quantity::Format format;
    int ten;  // value × 10^ten × 2^two
    int two;
};

// "2E" is exa; "2e1" and "2E1" are exponents.
std::optional<Scale> parse_suffix(std::string_view suffix) {
    for (const Suffix& known : kDecimal) {
        if (suffix == known.text) return Scale{Quantity::Format::DecimalSI, known.power, 0};
    }
    for (const Suffix& known : kBinary) {
        if (suffix == known.text) return Scale{Quantity::Format::BinarySI, 0, known.power};
    }
    if (suffix[0] != 'e' && suffix[0] != 'E') return std::nullopt;
    std::string_view digits = suffix.substr(1);
    if (digits.size() > 1 && digits[0] == '+' && is_digit(digits[1])) digits.remove_prefix(1);
    int power = 0;
    const auto parsed = std::from_chars(digits.data(), digits.data() + digits.size(), power);
    if (parsed.ec != std::errc{} || parsed.ptr != digits.data() + digits.size()) return std::nullopt;
    return Scale{Quantity::Format::DecimalExponent, std::clamp(power, -1000, 1000), 0};
}

// mantissa × 10^ten, where further digits that did not fit make the true value a little larger.
struct Number {
    Wide mantissa = 0;
    int ten = 0;
    bool inexact = false;
};

// The limit in billionths has 28 digits. Before a binary suffix 19 must do, or the product would need more
// than 128 bits. Digits beyond only decide the rounding.
constexpr int kDecimalDigits = 28;
constexpr int kBinaryDigits = 19;

std::optional<Number> parse_digits(std::string_view text, int most, std::size_t& used) {
    Number number;
    std::size_t count = 0;
    int significant = 0;
    bool after_point = false;
    for (used = 0; used < text.size(); ++used) {
        const char c = text[used];
        if (c == '.' && !after_point) {
            after_point = true;
            continue;
        }
        if (!is_digit(c)) break;
        ++count;
        if (significant < most) {
            number.mantissa = number.mantissa * 10 + (c - '0');
            if (number.mantissa != 0) ++significant;
            if (after_point) --number.ten;
        } else {
            number.inexact = number.inexact || c != '0';
            if (!after_point) ++number.ten;
        }
    }
    if (count == 0) return std::nullopt;
    return number;
}

// Billionths, rounded up; anything above the limit may come back as any value above it.
Wide scaled(const Number& number, int ten, int two) {
    if (number.mantissa == 0) return number.inexact ? 1 : 0;
    Wide nano = number.mantissa;
    if (ten < 0) {
        if (ten < -37) return 1;
        Wide divisor = 1;
        for (int i = 0; i < -ten; ++i) divisor *= 10;
        nano <<= two;  // 64 + 60 bits
        const bool up = nano % divisor != 0 || number.inexact;
        return nano / divisor + (up ? 1 : 0);
    }
    for (int i = 0; i < ten && nano <= kLimit; ++i) nano *= 10;
    for (int i = 0; i < two && nano <= kLimit; ++i) nano *= 2;
    return nano;
}

}  // namespace

Quantity::Wide Quantity::clamp(Wide nano) {
    return std::clamp(nano, -kLimit, kLimit);
}

Quantity Quantity::of(std::int64_t units, Format format) {
    Quantity result;
    result.nano_ = clamp(static_cast<Wide>(units) * kNano);
    result.format_ = format;
    return result;
}

Quantity Quantity::of_milli(std::int64_t thousandths) {
    Quantity result;
    result.nano_ = clamp(static_cast<Wide>(thousandths) * (kNano / 1000));
    return result;
}

Result<Quantity> Quantity::parse(std::string_view text) {
    const auto refuse = [text] {
        return fail(ErrorKind::Invalid, "\"" + std::string(text.substr(0, kMaxText)) +
                                            "\" is not a quantity; write a number with one of the suffixes "
                                            "n u m k M G T P E Ki Mi Gi Ti Pi Ei or an exponent");
    };
    if (text.size() > kMaxText) return refuse();
    std::string_view rest = text;
    const bool negative = rest.starts_with('-');
    if (negative || rest.starts_with('+')) rest.remove_prefix(1);
    std::size_t used = 0;
    auto number = parse_digits(rest, kDecimalDigits, used);
    if (!number) return refuse();
    const auto scale = parse_suffix(rest.substr(used));
    if (!scale) return refuse();
    if (scale->two != 0) number = parse_digits(rest, kBinaryDigits, used);
    const Wide nano = scaled(*number, number->ten + scale->ten + 9, scale->two);
    Quantity result;
    result.nano_ = clamp(negative ? -nano : nano);
    result.format_ = scale->format;
    return result;
}

std::int64_t Quantity::units() const {
    return static_cast<std::int64_t>(divide_up(nano_, kNano));
}

std::int64_t Quantity::milli() const {
    const Wide milli = divide_up(nano_, kNano / 1000);
    return static_cast<std::int64_t>(std::clamp(milli, -kMaxUnits, kMaxUnits));
}

Quantity& Quantity::operator+=(const Quantity& other) {
    if (nano_ == 0) format_ = other.format_;  // a sum that starts at zero is written as its parts are
    nano_ = clamp(nano_ + other.nano_);
    return *this;
}

Quantity& Quantity::operator-=(const Quantity& other) {
    if (nano_ == 0) format_ = other.format_;
    nano_ = clamp(nano_ - other.nano_);
    return *this;
}

std::string Quantity::to_string() const {
    if (nano_ == 0) return "0";
    const bool integral = nano_ % kNano == 0;
    const Wide units = nano_ / kNano;
    // Below 1024, and for parts of a unit, the binary suffixes cannot say it without rounding.
    if (format_ == Format::BinarySI && integral && (units >= 1024 || units <= -1024)) {
        Wide mantissa = units;
        std::size_t step = 0;
        while (step < kBinary.size() && mantissa % 1024 == 0) {
            mantissa /= 1024;
            ++step;
        }
        return wide_to_string(mantissa) + std::string(step == 0 ? "" : kBinary[step - 1].text);
    }
    Wide mantissa = nano_;
    std::size_t step = 0;
    while (step + 1 < kDecimal.size() && mantissa % 1000 == 0) {
        mantissa /= 1000;
        ++step;
    }
    if (format_ == Format::DecimalExponent) {
        const int power = kDecimal[step].power;
        return wide_to_string(mantissa) + (power == 0 ? "" : "e" + std::to_string(power));
    }
    return wide_to_string(mantissa) + std::string(kDecimal[step].text);
}

}  // namespace k8sgpu::kube
