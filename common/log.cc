#include "common/log.h"

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <memory>

namespace k8sgpu {

spdlog::logger& log() {
    static const std::shared_ptr<spdlog::logger> logger = [] {
        auto made =
            std::make_shared<spdlog::logger>("k8sgpu", std::make_shared<spdlog::sinks::stderr_sink_mt>());
        made->set_level(spdlog::level::warn);
        made->flush_on(spdlog::level::debug);
        return made;
    }();
    return *logger;
}

void configure_log(LogLevel level) {
    switch (level) {
        case LogLevel::Debug:
            log().set_level(spdlog::level::debug);
            break;
        case LogLevel::Info:
            log().set_level(spdlog::level::info);
            break;
        case LogLevel::Warn:
            log().set_level(spdlog::level::warn);
            break;
    }
    log().set_pattern("%Y-%m-%dT%H:%M:%S.%f%z %L %t] %v");
}

}  // namespace k8sgpu
