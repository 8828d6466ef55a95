#include "kubelet_api/metrics_text.h"

#include <fmt/format.h>

#include <algorithm>

namespace k8sgpu::kubelet_api {

namespace {

std::string escaped(std::string_view value) {
    std::string out;
    for (const char c : value) {
        if (c == '\\') out += "\\\\";
        if (c == '"') out += "\\\"";
        if (c == '\n') out += "\\n";
        if (c != '\\' && c != '"' && c != '\n') out += c;
    }
    return out;
}

}  // namespace

void MetricsText::add(std::string_view name, std::string_view type, std::string_view help,
                      const Labels& labels, double value, std::optional<WallTime> time) {
    auto family =
        std::find_if(families_.begin(), families_.end(), [&](const Family& f) { return f.name == name; });
    if (family == families_.end())
        family = families_.insert(families_.end(),
                                  Family{std::string(name), std::string(type), std::string(help), {}});
    std::string& out = family->samples;
    out += name;
    char separator = '{';
    for (const auto& [key, text] : labels) {
        out += fmt::format("{}{}=\"{}\"", separator, key, escaped(text));
        separator = ',';
    }
    if (!labels.empty()) out += '}';
    out += fmt::format(" {}", value);
    if (time) {
        const auto since = std::chrono::duration_cast<std::chrono::milliseconds>(time->time_since_epoch());
        out += fmt::format(" {}", since.count());
    }
    out += '\n';
}

std::string MetricsText::text() const {
    std::string out;
    for (const Family& family : families_)
        out += fmt::format("# HELP {} {}\n# TYPE {} {}\n{}", family.name, family.help, family.name,
                           family.type, family.samples);
    return out;
}

}  // namespace k8sgpu::kubelet_api
