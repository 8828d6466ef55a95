// Mutates JSON as JSON: a value becomes one of another type, another value of the same document, or is
// removed or doubled. Bytes alone would mostly make syntax errors, and what breaks readers of objects is a
// field of a type they did not expect. Include once in a target whose input is one JSON document.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "common/json.h"

#ifndef K8SGPU_FUZZ_REPLAY  // only libFuzzer calls it, and a replay holds many targets

extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t max_size);

namespace k8sgpu::fuzz {

inline void collect(Json& json, std::vector<Json*>& nodes) {
    nodes.push_back(&json);
    if (!json.is_structured()) return;
    for (Json& child : json) collect(child, nodes);
}

inline Json other_value(std::uint32_t random) {
    switch (random % 12) {
        case 0:
            return nullptr;
        case 1:
            return true;
        case 2:
            return 0;
        case 3:
            return -1;
        case 4:
            return 9223372036854775807;
        case 5:
            return 1e300;
        case 6:
            return "";
        case 7:
            return "x/y:z";
        case 8:
            return Json::array();
        case 9:
            return Json::object();
        case 10:
            return Json::array({nullptr, "a", Json::object()});
        default:
            return "2026-01-01T00:00:00Z";
    }
}

inline void mutate(Json& json, std::uint32_t random) {
    std::vector<Json*> nodes;
    collect(json, nodes);
    Json& target = *nodes[random % nodes.size()];
    random /= 7;
    const auto choice = random % 4;
    random /= 4;
    if (choice == 0) {
        target = Json(*nodes[random % nodes.size()]);
    } else if (choice == 1 && target.is_array() && !target.empty()) {
        target.push_back(Json(target[random % target.size()]));
    } else if (choice == 2 && target.is_structured() && !target.empty()) {
        auto victim = target.begin();
        std::advance(victim, random % target.size());
        target.erase(victim);
    } else {
        target = other_value(random);
    }
}

}  // namespace k8sgpu::fuzz

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t max_size,
                                               unsigned int seed) {
    using k8sgpu::Json;
    if (seed % 8 == 0) return LLVMFuzzerMutate(data, size, max_size);
    Json json = Json::parse(data, data + size, nullptr, /*allow_exceptions=*/false);
    if (json.is_discarded()) return LLVMFuzzerMutate(data, size, max_size);
    k8sgpu::fuzz::mutate(json, seed / 8);
    const std::string text = k8sgpu::dump_json(json);
    if (text.size() > max_size) return LLVMFuzzerMutate(data, size, max_size);
    std::memcpy(data, text.data(), text.size());
    return text.size();
}

#endif
