// Quantities: what is accepted is written in a form that reads as the same value, and sums do not overflow.
#include "kube/quantity.h"
#include "tests/fuzz/input.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace k8sgpu;
    const fuzz::Input input(data, size);
    const auto quantity = kube::Quantity::parse(input.rest());
    if (!quantity) return 0;
    const std::string text = quantity->to_string();
    const auto again = kube::Quantity::parse(text);
    fuzz::require(again.has_value() && *again == *quantity, "the written form reads as the same value");
    fuzz::require(again->to_string() == text, "the written form is canonical");
    static_cast<void>(quantity->units());
    static_cast<void>(quantity->milli());
    const kube::Quantity doubled = *quantity + *quantity;
    fuzz::require(doubled.is_negative() == quantity->is_negative(), "a sum keeps its sign");
    static_cast<void>(*quantity - doubled);
    return 0;
}
