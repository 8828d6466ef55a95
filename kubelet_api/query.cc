#include "kubelet_api/query.h"

#include <algorithm>

#include "common/encoding.h"

namespace k8sgpu::kubelet_api {

Query::Query(std::string_view text) {
    while (!text.empty()) {
        const std::string_view pair = text.substr(0, text.find('&'));
        text.remove_prefix(std::min(text.size(), pair.size() + 1));
        if (pair.empty()) continue;
        const auto equals = pair.find('=');
        auto key = url_decode(pair.substr(0, equals), /*plus_is_space=*/true);
        auto value = equals == std::string_view::npos
                         ? std::optional<std::string>("")
                         : url_decode(pair.substr(equals + 1), /*plus_is_space=*/true);
        if (!key || !value || pair.find(';') != std::string_view::npos) {
            malformed_ = true;
            continue;
        }
        pairs_.emplace_back(std::move(*key), std::move(*value));
    }
}

bool Query::has(std::string_view key) const {
    return std::any_of(pairs_.begin(), pairs_.end(), [&](const auto& pair) { return pair.first == key; });
}

std::optional<std::string> Query::first(std::string_view key) const {
    for (const auto& [name, value] : pairs_) {
        if (name == key) return value;
    }
    return std::nullopt;
}

std::vector<std::string> Query::all(std::string_view key) const {
    std::vector<std::string> out;
    for (const auto& [name, value] : pairs_) {
        if (name == key) out.push_back(value);
    }
    return out;
}

bool Query::flag(std::string_view key) const {
    auto value = first(key);
    if (!value) return false;
    std::transform(value->begin(), value->end(), value->begin(),
                   [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
    return *value != "false" && *value != "0";
}

std::optional<std::vector<std::string>> path_segments(std::string_view path) {
    if (!path.starts_with('/')) return std::nullopt;
    path.remove_prefix(1);
    if (path.ends_with('/')) path.remove_suffix(1);
    std::vector<std::string> out;
    while (true) {
        const auto slash = path.find('/');
        auto segment = url_decode(path.substr(0, slash), /*plus_is_space=*/false);
        if (!segment || *segment == "." || *segment == "..") return std::nullopt;
        out.push_back(std::move(*segment));
        if (slash == std::string_view::npos) return out;
        path.remove_prefix(slash + 1);
    }
}

}  // namespace k8sgpu::kubelet_api
