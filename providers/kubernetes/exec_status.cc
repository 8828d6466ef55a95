#include "providers/kubernetes/exec_status.h"

#include <charconv>

#include "common/json.h"

namespace k8sgpu::providers::kubernetes {
namespace {

// Each server on the way wraps the text; ours will do so again.
constexpr std::string_view kWrappings[] = {
    "Internal error occurred: ", "error executing command in container: ", "error attaching to container: "};

std::string unwrapped(std::string_view message) {
    bool again = true;
    while (again) {
        again = false;
        for (const std::string_view wrapping : kWrappings) {
            if (!message.starts_with(wrapping)) continue;
            message.remove_prefix(wrapping.size());
            again = true;
        }
    }
    return std::string(message);
}

std::optional<int> exit_code(const Json& status) {
    for (const Json& cause : array_at(status, {"details", "causes"})) {
        if (string_at(cause, {"reason"}) != "ExitCode") continue;
        const std::string text = string_at(cause, {"message"});
        int code = 0;
        const auto parsed = std::from_chars(text.data(), text.data() + text.size(), code);
        if (parsed.ec == std::errc{} && parsed.ptr == text.data() + text.size()) return code;
    }
    return std::nullopt;
}

}  // namespace

Result<ExitStatus> parse_exec_status(std::string_view text) {
    if (text.empty()) {
        return fail(ErrorKind::Unavailable,
                    "the connection to the remote cluster ended before the command's result came");
    }
    auto status = parse_json(text, "status of the remote command");
    if (!status) return fail(ErrorKind::Protocol, status.error().message);
    if (string_at(*status, {"status"}) == "Success") return ExitStatus{0};
    if (const auto code = exit_code(*status)) return ExitStatus{*code};
    const std::string message = unwrapped(string_at(*status, {"message"}));
    return fail(ErrorKind::Internal, message.empty() ? "the remote command failed" : message);
}

}  // namespace k8sgpu::providers::kubernetes
