#include "common/json.h"

namespace k8sgpu {
namespace {

// Copying and writing a tree recurses, so that depth costs stack. The API server's objects stay below 100
// levels.
constexpr int kMaxDepth = 1000;

bool is_too_deep(std::string_view text) {
    int depth = 0;
    bool in_string = false;
    for (std::size_t i = 0; i < text.size(); ++i) {
        const char c = text[i];
        if (in_string) {
            if (c == '\\') ++i;
            if (c == '"') in_string = false;
        } else if (c == '"') {
            in_string = true;
        } else if (c == '[' || c == '{') {
            if (++depth > kMaxDepth) return true;
        } else if (c == ']' || c == '}') {
            --depth;
        }
    }
    return false;
}

}  // namespace

Result<Json> parse_json(std::string_view text, std::string_view what) {
    if (is_too_deep(text)) {
        return fail(ErrorKind::Invalid,
                    std::string(what) + ": nested deeper than " + std::to_string(kMaxDepth) + " levels");
    }
    Json parsed = Json::parse(text, nullptr, /*allow_exceptions=*/false);
    if (parsed.is_discarded()) return fail(ErrorKind::Invalid, std::string(what) + ": not valid JSON");
    return parsed;
}

std::string dump_json(const Json& json) {
    return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

const Json& at(const Json& json, std::initializer_list<std::string_view> path) {
    static const Json absent;
    const Json* here = &json;
    for (const std::string_view step : path) {
        if (!here->is_object()) return absent;
        const auto found = here->find(step);
        if (found == here->end()) return absent;
        here = &*found;
    }
    return *here;
}

std::string string_at(const Json& json, std::initializer_list<std::string_view> path,
                      std::string_view fallback) {
    const Json& value = at(json, path);
    return value.is_string() ? value.get<std::string>() : std::string(fallback);
}

std::int64_t int_at(const Json& json, std::initializer_list<std::string_view> path, std::int64_t fallback) {
    const Json& value = at(json, path);
    return value.is_number_integer() ? value.get<std::int64_t>() : fallback;
}

bool bool_at(const Json& json, std::initializer_list<std::string_view> path, bool fallback) {
    const Json& value = at(json, path);
    return value.is_boolean() ? value.get<bool>() : fallback;
}

const Json& array_at(const Json& json, std::initializer_list<std::string_view> path) {
    static const Json empty = Json::array();
    const Json& value = at(json, path);
    return value.is_array() ? value : empty;
}

const Json& object_at(const Json& json, std::initializer_list<std::string_view> path) {
    static const Json empty = Json::object();
    const Json& value = at(json, path);
    return value.is_object() ? value : empty;
}

}  // namespace k8sgpu
