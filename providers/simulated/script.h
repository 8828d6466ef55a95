// What a simulated pod does, read from its annotations, in the manner of kwok's stages but tiny:
//
//   simulated.k8s.gpu/start-after: 2s    until its containers run (default 1s)
//   simulated.k8s.gpu/ready-after: 5s    from there until they are ready (default 0s)
//   simulated.k8s.gpu/run-for: 1m30s     from the start until they end (default: never)
//   simulated.k8s.gpu/exit-code: "3"     with which they end, 0…255 (default 0)
//   simulated.k8s.gpu/stop-after: 10s    from the order to end until they have (default 0s; grace cuts it)
//
// What happens at the end is restartPolicy's choice, as everywhere: a crash loop is run-for with a restart.
// Pure; any thread.
#pragma once

#include <optional>
#include <string_view>

#include "common/clock.h"
#include "common/json.h"

namespace k8sgpu::providers::simulated {

inline constexpr std::string_view kAnnotationDomain = "simulated.k8s.gpu/";

struct Script {
    Duration start_after{1000};
    Duration ready_after{0};
    std::optional<Duration> run_for;
    int exit_code = 0;
    Duration stop_after{0};
    bool restart_on_success = true;  // of spec.restartPolicy
    bool restart_on_failure = true;
};

// Invalid names the annotation, its value and what to write.
Result<Script> read_script(const Json& pod);

// "1h30m", "2.5s", "250ms", "0": Go's notation without signs; at most ten years.
Result<Duration> parse_duration(std::string_view text);

}  // namespace k8sgpu::providers::simulated
