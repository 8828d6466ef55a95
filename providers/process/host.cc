#include "providers/process/host.h"

#include <fmt/format.h>
#include <sched.h>
#include <sys/statvfs.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "common/file.h"

namespace k8sgpu::providers::process {
namespace {

long usable_cores() {
    cpu_set_t set;
    CPU_ZERO(&set);
    // More than 1024 cores do not fit the set; then all that are online count.
    if (::sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
    return std::max(1L, ::sysconf(_SC_NPROCESSORS_ONLN));
}

}  // namespace

Result<std::map<std::string, std::string>> host_capacity(
    const std::string& state_directory, const std::map<std::string, std::string>& overrides) {
    struct sysinfo memory {};
    if (::sysinfo(&memory) != 0) return fail(error_from_errno(errno, "sysinfo"));
    struct statvfs disk {};
    if (::statvfs(state_directory.c_str(), &disk) != 0) return fail(error_from_errno(errno, state_directory));
    std::map<std::string, std::string> capacity = {
        {"cpu", fmt::format("{}", usable_cores())},
        {"memory", fmt::format("{}Ki", memory.totalram / 1024 * memory.mem_unit)},
        {"ephemeral-storage", fmt::format("{}Ki", disk.f_blocks * (disk.f_frsize / 512) / 2)},
        {"pods", "110"}};
    for (const auto& [name, amount] : overrides) {
        if (amount.empty()) {
            capacity.erase(name);
        } else {
            capacity[name] = amount;
        }
    }
    return capacity;
}

}  // namespace k8sgpu::providers::process
