// The process provider's own files as a crash, a full disk or an older version may have left them: pod.json,
// status.json, orders.json; and /proc/<pid>/stat, where a process chooses its name.
#include "providers/process/log_choice.h"
#include "providers/process/pod_store.h"
#include "providers/process/process_table.h"
#include "providers/process/report.h"
#include "tests/fuzz/input.h"
#include "tests/fuzz/json_mutator.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace k8sgpu;
    using namespace k8sgpu::providers;
    using namespace k8sgpu::providers::process;
    const fuzz::Input input(data, size);
    const fuzz::MemoryFile file(input.rest());
    PodTrace trace;
    trace.stage = Stage::Running;
    if (const auto intent = read_intent(file.path()); intent) {
        const auto again = intent_from_json(to_json(*intent));
        fuzz::require(again.has_value() && to_json(*again) == to_json(*intent), "an intent reads again");
        trace.intent = *intent;
        static_cast<void>(lost_status(nullptr, *intent, "Lost", "gone", WallTime{}));
        Machine machine(*intent, Times{});
        static_cast<void>(machine.step(Times{}));
        static_cast<void>(render_status(machine));
    }
    if (const auto report = read_report(file.path()); report) {
        static_cast<void>(to_json(*report));
        static_cast<void>(lost_status(report->pod_status, trace.intent, "Lost", "gone", WallTime{}));
        trace.report = *report;
    }
    if (const auto orders = read_orders(file.path()); orders) static_cast<void>(to_json(*orders));
    LogRequest request;
    request.container = "main";
    for (const bool previous : {false, true}) {
        request.previous = previous;
        if (const auto run = choose_run(trace, request); run)
            static_cast<void>(run_is_over(trace, request.container, *run));
    }
    static_cast<void>(parse_stat(std::string(input.rest())));
    return 0;
}
