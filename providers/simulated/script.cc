#include "providers/simulated/script.h"

#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <string>

#include "kube/object.h"

namespace k8sgpu::providers::simulated {
namespace {

constexpr double kLongest = 10.0 * 365 * 24 * 3600 * 1000;  // ms

Unexpected bad_duration(std::string_view text) {
    return fail(ErrorKind::Invalid,
                fmt::format("\"{}\" is not a duration up to ten years; write 250ms, 5s or 1m30s", text));
}

std::optional<double> milliseconds_per(std::string_view unit) {
    if (unit == "ms") return 1;
    if (unit == "s") return 1000;
    if (unit == "m") return 60'000;
    if (unit == "h") return 3'600'000;
    return std::nullopt;
}

Unexpected about(std::string_view name, const Error& error) {
    return fail(error.with_context(fmt::format("metadata.annotations[{}{}]", kAnnotationDomain, name)));
}

Result<void> take_duration(const Json& pod, std::string_view name, Duration& target) {
    const std::string text = kube::annotation_of(pod, fmt::format("{}{}", kAnnotationDomain, name));
    if (text.empty()) return {};
    const auto parsed = parse_duration(text);
    if (!parsed) return about(name, parsed.error());
    target = *parsed;
    return {};
}

}  // namespace

Result<Duration> parse_duration(std::string_view text) {
    if (text == "0") return Duration(0);
    if (text.empty()) return bad_duration(text);
    double total = 0;
    std::string_view rest = text;
    while (!rest.empty()) {
        const std::size_t digits = rest.find_first_not_of("0123456789.");
        if (digits == 0 || digits == std::string_view::npos) return bad_duration(text);
        double number = 0;
        const auto parsed = std::from_chars(rest.data(), rest.data() + digits, number);
        if (parsed.ec != std::errc{} || parsed.ptr != rest.data() + digits) return bad_duration(text);
        rest.remove_prefix(digits);
        const std::size_t letters = std::min(rest.size(), rest.find_first_of("0123456789."));
        const auto factor = milliseconds_per(rest.substr(0, letters));
        if (!factor) return bad_duration(text);
        total += number * *factor;
        if (!(total <= kLongest)) return bad_duration(text);
        rest.remove_prefix(letters);
    }
    return Duration(static_cast<Duration::rep>(std::llround(total)));
}

Result<Script> read_script(const Json& pod) {
    Script script;
    Duration run_for{-1};
    for (auto& [name, target] : {std::pair<std::string_view, Duration*>{"start-after", &script.start_after},
                                 {"ready-after", &script.ready_after},
                                 {"run-for", &run_for},
                                 {"stop-after", &script.stop_after}}) {
        if (auto taken = take_duration(pod, name, *target); !taken) return fail(taken.error());
    }
    if (run_for >= Duration::zero()) script.run_for = run_for;
    const std::string code = kube::annotation_of(pod, fmt::format("{}exit-code", kAnnotationDomain));
    if (!code.empty()) {
        const auto parsed = std::from_chars(code.data(), code.data() + code.size(), script.exit_code);
        if (parsed.ec != std::errc{} || parsed.ptr != code.data() + code.size() || script.exit_code < 0 ||
            script.exit_code > 255) {
            return about(
                "exit-code",
                Error{ErrorKind::Invalid,
                      fmt::format("\"{}\" is not an exit code; write a number from 0 to 255", code)});
        }
    }
    const std::string policy = string_at(pod, {"spec", "restartPolicy"}, "Always");
    script.restart_on_success = policy == "Always";
    script.restart_on_failure = policy != "Never";
    return script;
}

}  // namespace k8sgpu::providers::simulated
