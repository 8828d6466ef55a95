#include "kube/quantity.h"

#include <gtest/gtest.h>

namespace k8sgpu::kube {
namespace {

std::string canonical(std::string_view text) {
    const auto quantity = Quantity::parse(text);
    return quantity ? quantity->to_string() : "error: " + quantity.error().message;
}

TEST(Quantity, Writes_the_canonical_form_of_the_api_server) {
    // Pairs as k8s.io/apimachinery canonicalises them.
    const std::pair<const char*, const char*> cases[] = {
        {"0", "0"},
        {"0Ki", "0"},
        {"100m", "100m"},
        {"1000m", "1"},
        {"1.5", "1500m"},
        {"1500", "1500"},
        {"1000", "1k"},
        {"1.5Gi", "1536Mi"},
        {"1024Ki", "1Mi"},
        {"1023Ki", "1023Ki"},
        {"0.5Ki", "512"},
        {"0.1Ki", "102400m"},
        {"1e3", "1e3"},
        {"1E3", "1e3"},
        {"2E", "2E"},
        {"12e-1", "1200e-3"},
        {"+5", "5"},
        {"-1Gi", "-1Gi"},
        {"-0.5", "-500m"},
        {".5", "500m"},
        {"5.", "5"},
        {"0.1n", "1n"},
        {"1.0000000001", "1000000001n"},
        {"110", "110"},
        {"16Ei", "9223372036854775807"},
        {"100E", "9223372036854775807"},
        {"9223372036854775807", "9223372036854775807"},
        {"0.000000000000000000000000000001", "1n"},
        {"1234567890123456789012345678901234567890", "9223372036854775807"},
        {"1e-1000000", "1e-9"},
        {"1e100000", "9223372036854775807"},
        {"00000000000000000000000000012", "12"}};
    for (const auto& [text, expected] : cases) EXPECT_EQ(canonical(text), expected) << text;
}

TEST(Quantity, Refuses_what_is_not_a_quantity) {
    for (const char* text : {"", "-", "Gi", "1 Gi", "1gi", "1KI", "1.2.3", "0x10", "1e", "1e1.5", "NaN",
                             "1Gib", ".", "--1", "1e+-2", "1e99999999999999999999"}) {
        EXPECT_FALSE(Quantity::parse(text)) << text;
    }
    EXPECT_FALSE(Quantity::parse(std::string(65, '1')));
}

TEST(Quantity, Compares_by_value_and_adds_without_overflow) {
    EXPECT_EQ(*Quantity::parse("1024Mi"), *Quantity::parse("1Gi"));
    EXPECT_LT(*Quantity::parse("1023Mi"), *Quantity::parse("1Gi"));
    EXPECT_GT(*Quantity::parse("1"), *Quantity::parse("999m"));
    EXPECT_EQ((*Quantity::parse("100m") + *Quantity::parse("900m")).to_string(), "1");
    EXPECT_EQ((Quantity() + *Quantity::parse("2Gi")).to_string(), "2Gi");
    EXPECT_EQ((*Quantity::parse("1Gi") - *Quantity::parse("2Gi")).to_string(), "-1Gi");
    EXPECT_EQ(*Quantity::parse("8E") + *Quantity::parse("8E"), *Quantity::parse("100E"));
}

TEST(Quantity, Rounds_up_to_units_and_thousandths) {
    EXPECT_EQ(Quantity::parse("1500m")->units(), 2);
    EXPECT_EQ(Quantity::parse("1500m")->milli(), 1500);
    EXPECT_EQ(Quantity::parse("1500u")->milli(), 2);
    EXPECT_EQ(Quantity::parse("-1500m")->units(), -1);
    EXPECT_EQ(Quantity::of(3).to_string(), "3");
    EXPECT_EQ(Quantity::of(4096, Quantity::Format::BinarySI).to_string(), "4Ki");
    EXPECT_EQ(Quantity::of_milli(250).to_string(), "250m");
}

TEST(Quantity, With_many_digits_reads_again_as_it_was_written) {
    for (const char* text :
         {"0.34567890123456781Ei", "123456789012345678.123456789", "9223372036854775806999999999n"}) {
        const auto quantity = Quantity::parse(text);
        ASSERT_TRUE(quantity) << text;
        EXPECT_EQ(*Quantity::parse(quantity->to_string()), *quantity) << text;
    }
}

}  // namespace
}  // namespace k8sgpu::kube
