#include "kubelet_api/own_process.h"

#include <dirent.h>
#include <sys/resource.h>
#include <unistd.h>

#include <ctime>
#include <sstream>
#include <string>

#include "common/file.h"

namespace k8sgpu::kubelet_api {

namespace {

std::uint64_t nanos(const timeval& time) {
    return static_cast<std::uint64_t>(time.tv_sec) * 1'000'000'000U +
           static_cast<std::uint64_t>(time.tv_usec) * 1'000U;
}

// "VmRSS:     1234 kB" of /proc/self/status; a number without a unit as it is.
std::optional<std::uint64_t> status_field(const std::string& status, const std::string& name) {
    const auto at = status.find("\n" + name + ":");
    if (at == std::string::npos) return std::nullopt;
    std::istringstream line(status.substr(at + name.size() + 2, 64));
    std::uint64_t value = 0;
    std::string unit;
    if (!(line >> value)) return std::nullopt;
    line >> unit;
    return unit == "kB" ? value * 1024 : value;
}

std::optional<std::uint64_t> count_open_files() {
    DIR* folder = ::opendir("/proc/self/fd");
    if (folder == nullptr) return std::nullopt;
    std::uint64_t entries = 0;
    while (::readdir(folder) != nullptr) ++entries;
    ::closedir(folder);
    return entries > 3 ? entries - 3 : 0;  // ".", ".." and the folder itself
}

// Field 22 of /proc/self/stat counts ticks since boot; the boot's wall time follows from the clock of uptime.
std::optional<WallTime> started_at() {
    const auto stat = read_file("/proc/self/stat", 4096);
    if (!stat) return std::nullopt;
    const auto name_end = stat->rfind(')');
    if (name_end == std::string::npos) return std::nullopt;
    std::istringstream fields(stat->substr(name_end + 1));
    std::string skipped;
    for (int field = 3; field < 22; ++field) fields >> skipped;
    double ticks = 0;
    timespec uptime{};
    if (!(fields >> ticks) || ::clock_gettime(CLOCK_BOOTTIME, &uptime) != 0) return std::nullopt;
    const double age = static_cast<double>(uptime.tv_sec) + static_cast<double>(uptime.tv_nsec) / 1e9 -
                       ticks / static_cast<double>(::sysconf(_SC_CLK_TCK));
    return std::chrono::system_clock::now() - std::chrono::duration_cast<std::chrono::system_clock::duration>(
                                                  std::chrono::duration<double>(age));
}

}  // namespace

OwnProcess read_own_process() {
    OwnProcess own;
    rusage usage{};
    if (::getrusage(RUSAGE_SELF, &usage) == 0) {
        own.user_nano_seconds = nanos(usage.ru_utime);
        own.system_nano_seconds = nanos(usage.ru_stime);
    }
    if (const auto status = read_file("/proc/self/status", 65536)) {
        own.resident_bytes = status_field(*status, "VmRSS");
        own.virtual_bytes = status_field(*status, "VmSize");
        own.anonymous_bytes = status_field(*status, "RssAnon");
        own.threads = status_field(*status, "Threads");
    }
    own.open_files = count_open_files();
    rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) == 0) own.max_files = limit.rlim_cur;
    static const std::optional<WallTime> start = started_at();
    own.start_time = start;
    return own;
}

}  // namespace k8sgpu::kubelet_api
