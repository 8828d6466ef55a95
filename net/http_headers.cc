// HttpHeaders and the accessors of heads; the parser is in http_head.cc.
#include <algorithm>

#include "net/http_head.h"

namespace k8sgpu::net {

namespace {

char lower(char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

std::string lowered(std::string_view text) {
    std::string out(text);
    std::transform(out.begin(), out.end(), out.begin(), lower);
    return out;
}

std::string_view trimmed(std::string_view text) {
    const auto first = text.find_first_not_of(" \t");
    if (first == std::string_view::npos) return {};
    return text.substr(first, text.find_last_not_of(" \t") - first + 1);
}

}  // namespace

void HttpHeaders::add(std::string_view name, std::string value) {
    lines_.emplace_back(lowered(name), std::move(value));
}

void HttpHeaders::remove(std::string_view name) {
    std::erase_if(lines_, [name](const auto& line) { return line.first == name; });
}

std::string_view HttpHeaders::get(std::string_view name) const {
    for (const auto& [key, value] : lines_) {
        if (key == name) return value;
    }
    return {};
}

bool HttpHeaders::has(std::string_view name) const {
    return std::any_of(lines_.begin(), lines_.end(), [name](const auto& line) { return line.first == name; });
}

std::vector<std::string_view> HttpHeaders::all(std::string_view name) const {
    std::vector<std::string_view> values;
    for (const auto& [key, value] : lines_) {
        if (key == name) values.push_back(value);
    }
    return values;
}

std::vector<std::string> HttpHeaders::list(std::string_view name) const {
    std::vector<std::string> elements;
    for (std::string_view rest : all(name)) {
        while (!rest.empty()) {
            const auto comma = std::min(rest.find(','), rest.size());
            if (const auto element = trimmed(rest.substr(0, comma)); !element.empty()) {
                elements.emplace_back(element);
            }
            rest.remove_prefix(std::min(comma + 1, rest.size()));
        }
    }
    return elements;
}

bool HttpHeaders::has_token(std::string_view name, std::string_view token) const {
    const auto elements = list(name);
    const auto wanted = lowered(token);
    return std::any_of(elements.begin(), elements.end(),
                       [&](const std::string& element) { return lowered(element) == wanted; });
}

std::string_view HttpRequestHead::path() const {
    const std::string_view all(target);
    return all.substr(0, all.find('?'));
}

std::string_view HttpRequestHead::query() const {
    const auto mark = target.find('?');
    return mark == std::string::npos ? std::string_view{} : std::string_view(target).substr(mark + 1);
}

bool HttpRequestHead::is_upgrade_to(std::string_view protocol) const {
    return headers.has_token("connection", "upgrade") && headers.has_token("upgrade", protocol);
}

}  // namespace k8sgpu::net
