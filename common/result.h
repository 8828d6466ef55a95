// Result<T>: a value or an Error. A subset of std::expected under its names, so that an alias can replace it
// once the standard library has it. Reading the wrong side is a bug and aborts; nothing here throws.
// Plain values; any thread.
#pragma once

#include <cstdlib>
#include <optional>
#include <type_traits>
#include <utility>
#include <variant>

#include "common/error.h"

namespace k8sgpu {

// Makes the error side: `return Unexpected(Error{ErrorKind::NotFound, "no such pod"})`, or shorter fail(...).
struct Unexpected {
    explicit Unexpected(Error e) : error(std::move(e)) {}
    Error error;
};

inline Unexpected fail(ErrorKind kind, std::string message) {
    return Unexpected(Error{kind, std::move(message), {}, {}});
}
inline Unexpected fail(Error error) {
    return Unexpected(std::move(error));
}

template <typename T>
class [[nodiscard]] Result {
  public:
    using value_type = T;

    // Implicit on purpose: `return value;` and `return fail(...)` read as what they are.
    template <typename U = T, typename = std::enable_if_t<std::is_convertible_v<U&&, T>>>
    Result(U&& value) : side_(std::in_place_index<0>, std::forward<U>(value)) {}
    Result(Unexpected unexpected) : side_(std::in_place_index<1>, std::move(unexpected.error)) {}

    bool has_value() const { return side_.index() == 0; }
    explicit operator bool() const { return has_value(); }

    T& value() & { return checked(); }
    const T& value() const& { return const_cast<Result*>(this)->checked(); }
    T&& value() && { return std::move(checked()); }
    T& operator*() & { return checked(); }
    const T& operator*() const& { return value(); }
    T&& operator*() && { return std::move(checked()); }
    T* operator->() { return &checked(); }
    const T* operator->() const { return &value(); }

    const Error& error() const {
        const Error* error = std::get_if<1>(&side_);
        if (error == nullptr) std::abort();
        return *error;
    }

    T value_or(T fallback) const { return has_value() ? value() : std::move(fallback); }

  private:
    T& checked() {
        T* value = std::get_if<0>(&side_);
        if (value == nullptr) std::abort();
        return *value;
    }
    std::variant<T, Error> side_;
};

template <>
class [[nodiscard]] Result<void> {
  public:
    Result() = default;
    Result(Unexpected unexpected) : error_(std::move(unexpected.error)) {}

    bool has_value() const { return !error_.has_value(); }
    explicit operator bool() const { return has_value(); }
    const Error& error() const {
        if (!error_) std::abort();
        return *error_;
    }

  private:
    std::optional<Error> error_;
};

}  // namespace k8sgpu
