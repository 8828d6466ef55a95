// What the tests of net/ share: contexts with a generous real deadline, pattern bytes, reading to the end.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <string>

#include "common/thread.h"
#include "net/byte_stream.h"

namespace k8sgpu {
inline void PrintTo(ErrorKind kind, std::ostream* out) {
    *out << to_string(kind);
}
}  // namespace k8sgpu

namespace k8sgpu::net::test {

inline SystemClock& real_clock() {
    static SystemClock clock;
    return clock;
}

// Long enough for a sanitizer build on a busy machine; a test that meets it has failed.
inline CallContext soon() {
    return CallContext::with_timeout(real_clock(), std::chrono::seconds(30), {});
}
inline CallContext within(Duration timeout) {
    return CallContext::with_timeout(real_clock(), timeout, {});
}

// Bytes whose order matters, so that swapped or lost blocks show.
inline std::string pattern(std::size_t size, std::uint32_t seed = 1) {
    std::string out(size, '\0');
    std::uint32_t state = seed * 2654435761U + 1;
    for (auto& c : out) {
        state = state * 1664525U + 1013904223U;
        c = static_cast<char>(state >> 24U);
    }
    return out;
}

inline std::string read_exactly(ByteStream& stream, std::size_t size) {
    std::string out;
    std::array<char, 16384> buffer;
    while (out.size() < size) {
        auto got = stream.read(std::span(buffer).first(std::min(buffer.size(), size - out.size())), soon());
        if (!got || *got == 0) {
            ADD_FAILURE() << "stream ended after " << out.size() << " of " << size
                          << " bytes: " << (got ? "end" : got.error().message);
            break;
        }
        out.append(buffer.data(), *got);
    }
    return out;
}

struct Received {
    std::string bytes;
    std::optional<Error> error;  // nothing: the stream ended in order
};
inline Received read_all(ByteStream& stream) {
    Received received;
    std::array<char, 16384> buffer;
    while (true) {
        auto got = stream.read(buffer, soon());
        if (!got) {
            received.error = got.error();
            return received;
        }
        if (*got == 0) return received;
        received.bytes.append(buffer.data(), *got);
    }
}

template <typename T>
ErrorKind kind_of(const Result<T>& result) {
    if (!result) return result.error().kind;
    ADD_FAILURE() << "succeeded where an error was expected";
    return ErrorKind::Internal;
}

inline std::string from_hex(std::string_view hex) {
    std::string out;
    std::string digits;
    for (const char c : hex) {
        if (c == ' ') continue;
        digits += c;
        if (digits.size() < 2) continue;
        out += static_cast<char>(std::stoi(digits, nullptr, 16));
        digits.clear();
    }
    return out;
}

}  // namespace k8sgpu::net::test

#define ASSERT_OK(expression)                                                                   \
    do {                                                                                        \
        const auto& ok_result = (expression);                                                   \
        ASSERT_TRUE(ok_result.has_value()) << #expression << ": " << ok_result.error().message; \
    } while (false)
#define EXPECT_OK(expression)                                                                   \
    do {                                                                                        \
        const auto& ok_result = (expression);                                                   \
        EXPECT_TRUE(ok_result.has_value()) << #expression << ": " << ok_result.error().message; \
    } while (false)
