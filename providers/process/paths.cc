#include "providers/process/paths.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "common/file.h"
#include "common/scope_exit.h"

namespace k8sgpu::providers::process {

std::string PodPaths::container_logs(std::string_view container) const {
    return fmt::format("{}/logs/{}", dir, container);
}
std::string PodPaths::log(std::string_view container, int run) const {
    return fmt::format("{}/logs/{}/{}.log", dir, container, run);
}
std::string PodPaths::termination(std::string_view container) const {
    return fmt::format("{}/termination/{}", dir, container);
}

std::string pods_directory(const std::string& state_directory) {
    return state_directory + "/pods";
}
PodPaths pod_paths(const std::string& state_directory, std::string_view uid) {
    return {fmt::format("{}/pods/{}", state_directory, uid)};
}

bool is_safe_uid(std::string_view uid) {
    return !uid.empty() && uid.size() <= 128 && std::all_of(uid.begin(), uid.end(), [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
               c == '_';
    });
}

Result<std::string> boot_id() {
    auto text = read_file("/proc/sys/kernel/random/boot_id", 128);
    if (!text) return fail(text.error().with_context("reading the boot id"));
    while (!text->empty() && text->back() == '\n') text->pop_back();
    return std::move(*text);
}

Result<void> sync_directory(const std::string& path) {
    const int fd = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return fail(error_from_errno(errno, path));
    const ScopeExit close_fd([fd] { ::close(fd); });
    if (::fsync(fd) != 0) return fail(error_from_errno(errno, path));
    return {};
}

}  // namespace k8sgpu::providers::process
