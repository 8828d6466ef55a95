#include "kubelet_api/pod_containers.h"

#include <fmt/format.h>

namespace k8sgpu::kubelet_api {

bool has_container(const Json& pod, std::string_view container) {
    for (const char* list : {"containers", "initContainers", "ephemeralContainers"}) {
        for (const Json& one : array_at(pod, {"spec", list})) {
            if (string_at(one, {"name"}) == container) return true;
        }
    }
    return false;
}

const Json& container_status(const Json& pod, std::string_view container) {
    for (const char* list : {"containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"}) {
        for (const Json& one : array_at(pod, {"status", list})) {
            if (string_at(one, {"name"}) == container) return one;
        }
    }
    static const Json none;
    return none;
}

bool is_running(const Json& pod, std::string_view container) {
    return at(container_status(pod, container), {"state", "running"}).is_object();
}

Result<void> check_log_available(const Json& pod, std::string_view container, bool previous) {
    const std::string name = string_at(pod, {"metadata", "name"});
    const Json& status = container_status(pod, container);
    const auto unavailable = [&](std::string_view prefix, std::string_view what) {
        return fail(ErrorKind::Invalid,
                    fmt::format("{}container \"{}\" in pod \"{}\" {}", prefix, container, name, what));
    };
    if (status.is_null()) return unavailable("", "is not available");

    const bool has_last = !string_at(status, {"lastState", "terminated", "containerID"}).empty();
    if (previous) {
        if (has_last) return {};
        return unavailable("previous terminated ", "not found");
    }
    if (at(status, {"state", "running"}).is_object()) return {};
    if (const Json& ended = at(status, {"state", "terminated"}); ended.is_object()) {
        if (!string_at(ended, {"containerID"}).empty() || has_last) return {};
        return unavailable("", "is terminated");
    }
    if (at(status, {"lastState", "terminated"}).is_object()) return {};
    if (const Json& waiting = at(status, {"state", "waiting"}); waiting.is_object()) {
        const std::string reason = string_at(waiting, {"reason"});
        if (reason == "ErrImagePull") return unavailable("", "is waiting to start: image can't be pulled");
        if (reason == "ImagePullBackOff")
            return unavailable("", "is waiting to start: trying and failing to pull image");
        return unavailable("", "is waiting to start: " + reason);
    }
    return unavailable("", "is waiting to start - no logs yet");
}

}  // namespace k8sgpu::kubelet_api
