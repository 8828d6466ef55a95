// JSON as the daemon handles it: nlohmann's tree, so that fields we do not know survive a round trip, and
// readers that treat a missing or mistyped field as absent instead of throwing. Pure; any thread.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "common/result.h"

namespace k8sgpu {

using Json = nlohmann::json;

// Invalid when `text` is not JSON; `what` names it in the message ("watch event", "exec credential").
Result<Json> parse_json(std::string_view text, std::string_view what);

// Compact text; bytes that are not UTF-8 are replaced, never thrown over.
std::string dump_json(const Json& json);

// The value at `path` below `json`, or a null value when any step is missing. The reference lives as long as
// `json`.
const Json& at(const Json& json, std::initializer_list<std::string_view> path);

// Typed readers of the same; the fallback also covers a value of another type.
std::string string_at(const Json& json, std::initializer_list<std::string_view> path,
                      std::string_view fallback = "");
std::int64_t int_at(const Json& json, std::initializer_list<std::string_view> path,
                    std::int64_t fallback = 0);
bool bool_at(const Json& json, std::initializer_list<std::string_view> path, bool fallback = false);

// The array or object at `path`, or an empty one: `for (const Json& c : array_at(pod, {"spec",
// "containers"}))`.
const Json& array_at(const Json& json, std::initializer_list<std::string_view> path);
const Json& object_at(const Json& json, std::initializer_list<std::string_view> path);

}  // namespace k8sgpu
