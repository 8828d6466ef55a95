// Kubernetes resource quantities: "100m", "1.5Gi", "2e3". Read, compare, add, and written back in the
// canonical form of the API server (k8s.io/apimachinery/pkg/api/resource), so that a value of ours never
// differs from the stored one by spelling.
//
// Held in billionths, saturating at ±(2^63 − 1) whole units as the API server does. Plain values; any thread.
#pragma once

#include <compare>
#include <cstdint>
#include <string>
#include <string_view>

#include "common/result.h"

namespace k8sgpu::kube {

class Quantity {
  public:
    // The suffix family that a value was written in; kept when it is written again.
    enum class Format { DecimalSI, BinarySI, DecimalExponent };

    Quantity() = default;
    static Quantity of(std::int64_t units, Format format = Format::DecimalSI);
    static Quantity of_milli(std::int64_t thousandths);

    // Invalid for anything the API server would refuse, and for more than 64 characters. Parts finer than a
    // billionth are rounded away from zero.
    static Result<Quantity> parse(std::string_view text);

    std::string to_string() const;
    std::int64_t units() const;  // whole units, rounded up as Quantity.Value() does
    std::int64_t milli() const;  // thousandths, rounded up, saturating
    bool is_zero() const { return nano_ == 0; }
    bool is_negative() const { return nano_ < 0; }

    Quantity& operator+=(const Quantity& other);
    Quantity& operator-=(const Quantity& other);
    friend Quantity operator+(Quantity a, const Quantity& b) { return a += b; }
    friend Quantity operator-(Quantity a, const Quantity& b) { return a -= b; }

    // By value alone: "1024Mi" equals "1Gi".
    friend bool operator==(const Quantity& a, const Quantity& b) { return a.nano_ == b.nano_; }
    friend std::strong_ordering operator<=>(const Quantity& a, const Quantity& b) {
        return a.nano_ < b.nano_   ? std::strong_ordering::less
               : a.nano_ > b.nano_ ? std::strong_ordering::greater
                                   : std::strong_ordering::equal;
    }

  private:
    __extension__ using Wide = __int128;  // 2^63 × 10^9 needs 93 bits
    static Wide clamp(Wide nano);

    Wide nano_ = 0;
    Format format_ = Format::DecimalSI;
};

}  // namespace k8sgpu::kube
