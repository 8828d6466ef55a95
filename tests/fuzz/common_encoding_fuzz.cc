// Text forms of bytes and times, and JSON itself.
#include "common/encoding.h"
#include "common/json.h"
#include "tests/fuzz/input.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace k8sgpu;
    const fuzz::Input input(data, size);
    const std::string_view text = input.rest();
    if (const auto bytes = base64_decode(text); bytes)
        fuzz::require(base64_decode(base64_encode(*bytes)).value_or("!") == *bytes, "base64 reads again");
    if (const auto bytes = base64url_decode(text); bytes)
        fuzz::require(base64url_decode(base64url_encode(*bytes)).value_or("!") == *bytes,
                      "base64url reads again");
    for (const bool plus : {false, true}) {
        if (const auto plain = url_decode(text, plus); plain)
            fuzz::require(url_decode(url_encode(*plain), plus) == *plain, "an encoded text reads again");
    }
    if (const auto time = parse_rfc3339(text); time)
        fuzz::require(parse_rfc3339(rfc3339_nanos(*time)) == *time, "a time reads again");
    if (const auto json = parse_json(text, "input"); json) {
        const auto again = parse_json(dump_json(*json), "again");
        fuzz::require(again.has_value(), "JSON that was read can be written and read");
    }
    return 0;
}
