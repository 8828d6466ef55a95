// What this program itself uses, from /proc/self: the "kubelet" among the node's system containers, and the
// process_* figures of /metrics. Any thread; reads anew at each call.
#pragma once

#include <cstdint>
#include <optional>

#include "common/clock.h"

namespace k8sgpu::kubelet_api {

// What cannot be read is absent.
struct OwnProcess {
    std::uint64_t user_nano_seconds = 0, system_nano_seconds = 0;
    std::optional<std::uint64_t> resident_bytes, virtual_bytes, anonymous_bytes;
    std::optional<std::uint64_t> open_files, max_files, threads;
    std::optional<WallTime> start_time;
};

OwnProcess read_own_process();

}  // namespace k8sgpu::kubelet_api
