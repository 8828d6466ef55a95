#include "providers/port/quantity.h"

#include <gtest/gtest.h>

#include <limits>

namespace k8sgpu::providers {
namespace {

struct Case {
    const char* text;
    std::int64_t one;
    std::int64_t milli;
};

class Quantity : public testing::TestWithParam<Case> {};

TEST_P(Quantity, Is_rounded_up_to_the_unit) {
    const auto one = quantity_in(GetParam().text, QuantityUnit::One);
    const auto milli = quantity_in(GetParam().text, QuantityUnit::Milli);
    ASSERT_TRUE(one) << one.error().message;
    ASSERT_TRUE(milli) << milli.error().message;
    EXPECT_EQ(*one, GetParam().one);
    EXPECT_EQ(*milli, GetParam().milli);
}

constexpr std::int64_t kMax = std::numeric_limits<std::int64_t>::max();

INSTANTIATE_TEST_SUITE_P(
    Table, Quantity,
    testing::Values(Case{"0", 0, 0}, Case{"1", 1, 1000}, Case{"100m", 1, 100}, Case{"0.1", 1, 100},
                    Case{"1500m", 2, 1500}, Case{"1.5", 2, 1500}, Case{"2k", 2000, 2'000'000},
                    Case{"1Ki", 1024, 1'024'000}, Case{"1.5Gi", 1'610'612'736, 1'610'612'736'000},
                    Case{"0.5Ki", 512, 512'000}, Case{"2e3", 2000, 2'000'000}, Case{"12E2", 1200, 1'200'000},
                    Case{"1e-3", 1, 1}, Case{"1n", 1, 1}, Case{"250u", 1, 1}, Case{"-1500m", -1, -1500},
                    Case{"1E", 1'000'000'000'000'000'000, kMax}, Case{"8Ei", kMax, kMax},
                    Case{"9e999", kMax, kMax}, Case{"0e999", 0, 0}, Case{"1e-999", 1, 1}, Case{"+3", 3, 3000},
                    Case{".5", 1, 500}, Case{"7.", 7, 7000}, Case{"1.00000000000000000000000000001", 2, 1001},
                    Case{"99999999999999999999999", kMax, kMax}));

TEST(QuantityErrors, Name_the_text) {
    for (const char* text : {"", "x", "1x", "1 ", "1KI", "--1", "1.2.3", "e3", "Ki", "1e", "1e99999", "-"}) {
        const auto parsed = quantity_in(text, QuantityUnit::One);
        ASSERT_FALSE(parsed) << text;
        EXPECT_EQ(parsed.error().kind, ErrorKind::Invalid);
        EXPECT_EQ(parsed.error().message, "not a quantity: \"" + std::string(text) + "\"");
    }
}

}  // namespace
}  // namespace k8sgpu::providers
