// Logging: one process-wide spdlog logger to standard error, as the kubelet does. Set up once by main; until
// then, and in tests, warnings and worse are shown.
//
// Info: somebody would want the line once a day. Warn: somebody may have to act. Debug: each decision with
// its inputs. Name pods as `pod=ns/name uid=…`. Never log a secret, a token or an environment value. Any
// thread.
#pragma once

#include <spdlog/fmt/fmt.h>
#include <spdlog/logger.h>

#include <string_view>

#include "common/pod_id.h"

template <>
struct fmt::formatter<k8sgpu::PodId> : fmt::formatter<std::string_view> {
    auto format(const k8sgpu::PodId& id, fmt::format_context& ctx) const {
        return fmt::format_to(ctx.out(), "pod={}/{} uid={}", id.ns, id.name, id.uid);
    }
};

namespace k8sgpu {

enum class LogLevel { Debug, Info, Warn };

spdlog::logger& log();
// Sets level and line layout; called by main before any thread starts.
void configure_log(LogLevel level);

}  // namespace k8sgpu
