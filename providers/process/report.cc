#include "providers/process/report.h"

#include <fmt/format.h>

#include <algorithm>

#include "common/encoding.h"
#include "common/file.h"

namespace k8sgpu::providers::process {
namespace {

constexpr int kVersion = 1;
constexpr std::string_view kUnknownMessage = "The container could not be located when the pod was terminated";

Json terminated(const Termination& end, const PodId& pod, const std::string& container) {
    Json json = {{"exitCode", end.exit_code},
                 {"reason", end.reason},
                 {"startedAt", rfc3339_seconds(end.started)},
                 {"finishedAt", rfc3339_seconds(end.finished)},
                 {"containerID", container_id(pod, container, end.run)}};
    if (!end.message.empty()) json["message"] = end.message;
    return {{"terminated", std::move(json)}};
}

Json waiting(std::string reason, std::string message = "") {
    Json json = {{"reason", std::move(reason)}};
    if (!message.empty()) json["message"] = std::move(message);
    return {{"waiting", std::move(json)}};
}

bool has_init(const PodIntent& intent) {
    return std::any_of(intent.containers.begin(), intent.containers.end(),
                       [](const auto& c) { return c.init; });
}

Json blank_status(const ContainerIntent& container, const PodIntent& intent) {
    return {{"name", container.name},
            {"image", container.image},
            {"imageID", ""},
            {"restartCount", 0},
            {"ready", false},
            {"started", false},
            {"state", waiting(has_init(intent) ? "PodInitializing" : "ContainerCreating")},
            {"lastState", Json::object()}};
}

Json container_status(const Machine& machine, std::size_t index) {
    const PodIntent& intent = machine.intent();
    const ContainerIntent& container = intent.containers[index];
    const ContainerRecord& record = machine.records()[index];
    Json status = blank_status(container, intent);
    if (record.run < 0) return status;

    status["containerID"] = container_id(intent.id, container.name, record.run);
    status["restartCount"] = record.run;
    const bool running = record.phase == ContainerPhase::Running;
    status["started"] = running && !record.hooking && record.passed;
    status["ready"] = container.init ? record.phase == ContainerPhase::Ended && record.last->exit_code == 0
                                     : running && !record.hooking && record.ready;
    const std::optional<Termination>* shown_last = &record.last;
    if (running) {
        status["state"] = {{"running", {{"startedAt", rfc3339_seconds(record.started)}}}};
    } else if (record.phase == ContainerPhase::BackingOff) {
        status["state"] = waiting("CrashLoopBackOff",
                                  fmt::format("back-off {} restarting failed container={} pod={}_{}({})",
                                              go_duration(machine.backoff_of(index)), container.name,
                                              intent.id.name, intent.id.ns, intent.id.uid));
    } else {
        status["state"] = terminated(*record.last, intent.id, container.name);
        shown_last = &record.previous;
    }
    if (*shown_last) status["lastState"] = terminated(**shown_last, intent.id, container.name);
    return status;
}

std::string phase_of(const Machine& machine) {
    const auto& records = machine.records();
    bool all_succeeded = machine.initialized(), none_waits = machine.initialized();
    for (std::size_t i = 0; i < records.size(); ++i) {
        if (machine.intent().containers[i].init) continue;
        const ContainerRecord& record = records[i];
        all_succeeded = all_succeeded && record.phase == ContainerPhase::Ended && record.last->exit_code == 0;
        none_waits = none_waits && record.run >= 0;
    }
    if (machine.ended()) return all_succeeded && !machine.deadline_exceeded() ? "Succeeded" : "Failed";
    return none_waits ? "Running" : "Pending";
}

void sort_lists(Json& status, Json init, Json regular) {
    std::sort(regular.begin(), regular.end(),
              [](const Json& a, const Json& b) { return string_at(a, {"name"}) < string_at(b, {"name"}); });
    if (!init.empty()) status["initContainerStatuses"] = std::move(init);
    status["containerStatuses"] = std::move(regular);
}

void add_addresses(Json& status, const PodIntent& intent) {
    if (intent.pod_ips.empty()) return;
    status["podIP"] = intent.pod_ips.front();
    Json& list = status["podIPs"] = Json::array();
    for (const std::string& ip : intent.pod_ips) list.push_back({{"ip", ip}});
}

// What becomes of one container of a lost pod.
Json lost_container(Json status, WallTime now) {
    const Json& state = at(status, {"state"});
    if (at(state, {"terminated"}).is_object()) return status;
    const Json last = at(status, {"lastState", "terminated"});
    if (at(state, {"waiting"}).is_object() && last.is_object()) {
        // It was between two runs: how it ended is known.
        status["state"] = {{"terminated", last}};
        status["lastState"] = Json::object();
    } else {
        Json end = {{"exitCode", 137}, {"reason", "ContainerStatusUnknown"}, {"message", kUnknownMessage}};
        if (const std::string started = string_at(state, {"running", "startedAt"}); !started.empty()) {
            end["startedAt"] = started;
            end["finishedAt"] = rfc3339_seconds(now);
            end["containerID"] = string_at(status, {"containerID"});
        }
        status["state"] = {{"terminated", std::move(end)}};
    }
    status["ready"] = status["started"] = false;
    return status;
}

}  // namespace

Json render_status(const Machine& machine) {
    const PodIntent& intent = machine.intent();
    Json status = {{"phase", phase_of(machine)}, {"startTime", rfc3339_seconds(machine.created())}};
    if (machine.deadline_exceeded()) {
        status["reason"] = "DeadlineExceeded";
        status["message"] = "Pod was active on the node longer than the specified deadline";
    }
    Json init = Json::array(), regular = Json::array();
    for (std::size_t i = 0; i < intent.containers.size(); ++i) {
        (intent.containers[i].init ? init : regular).push_back(container_status(machine, i));
    }
    sort_lists(status, std::move(init), std::move(regular));
    add_addresses(status, intent);
    status["conditions"] = {
        {{"type", "PodReadyToStartContainers"}, {"status", machine.ended() ? "False" : "True"}}};
    return status;
}

Json lost_status(const Json& last, const PodIntent& intent, const std::string& reason,
                 const std::string& message, WallTime now) {
    Json status = last.is_object() ? last : Json{{"startTime", rfc3339_seconds(now)}};
    status["phase"] = "Failed";
    status["reason"] = reason;
    status["message"] = message;
    Json init = Json::array(), regular = Json::array();
    for (const ContainerIntent& container : intent.containers) {
        const char* list = container.init ? "initContainerStatuses" : "containerStatuses";
        Json shown = blank_status(container, intent);
        for (const Json& known : array_at(last, {list})) {
            if (string_at(known, {"name"}) == container.name) shown = known;
        }
        (container.init ? init : regular).push_back(lost_container(std::move(shown), now));
    }
    sort_lists(status, std::move(init), std::move(regular));
    add_addresses(status, intent);
    status["conditions"] = {{{"type", "PodReadyToStartContainers"}, {"status", "False"}}};
    return status;
}

Json to_json(const Report& report) {
    Json processes = Json::array();
    for (const ProcessMark& mark : report.processes) {
        processes.push_back({{"container", mark.container},
                             {"pid", mark.pid},
                             {"startTime", mark.start_time},
                             {"run", mark.run}});
        if (mark.reaped_before) processes.back()["reapedBefore"] = *mark.reaped_before;
    }
    Json events = Json::array();
    for (const ShimEvent& event : report.events) {
        events.push_back({{"number", event.number},
                          {"type", event.event.type},
                          {"reason", event.event.reason},
                          {"message", event.event.message}});
    }
    return {{"version", kVersion},
            {"ended", report.ended},
            {"removing", report.removing},
            {"written", rfc3339_micros(report.written)},
            {"processes", std::move(processes)},
            {"events", std::move(events)},
            {"podStatus", report.pod_status}};
}

Result<Report> read_report(const std::string& path) {
    auto text = read_file(path);
    if (!text) return fail(text.error());
    auto json = parse_json(*text, path);
    if (!json) return fail(json.error());
    Report report;
    report.pod_status = object_at(*json, {"podStatus"});
    report.ended = bool_at(*json, {"ended"});
    report.removing = bool_at(*json, {"removing"});
    report.written = parse_rfc3339(string_at(*json, {"written"})).value_or(WallTime{});
    for (const Json& mark : array_at(*json, {"processes"})) {
        report.processes.push_back({string_at(mark, {"container"}), static_cast<pid_t>(int_at(mark, {"pid"})),
                                    static_cast<std::uint64_t>(int_at(mark, {"startTime"})),
                                    static_cast<int>(int_at(mark, {"run"})), std::nullopt});
        const Json& before = at(mark, {"reapedBefore"});
        if (before.is_number_unsigned()) report.processes.back().reaped_before = before.get<std::uint64_t>();
    }
    for (const Json& event : array_at(*json, {"events"})) {
        report.events.push_back(
            {int_at(event, {"number"}),
             {string_at(event, {"type"}), string_at(event, {"reason"}), string_at(event, {"message"})}});
    }
    return report;
}

std::string container_id(const PodId& pod, const std::string& container, int run) {
    return "process://" + hex_encode(sha256(fmt::format("{}/{}/{}", pod.uid, container, run)));
}

std::string go_duration(Duration duration) {
    const auto ms = duration.count();
    if (ms < 1000) return ms == 0 ? "0s" : fmt::format("{}ms", ms);
    const auto seconds = ms / 1000 % 60, minutes = ms / 60'000 % 60, hours = ms / 3'600'000;
    std::string out;
    if (hours > 0) out += fmt::format("{}h", hours);
    if (hours > 0 || minutes > 0) out += fmt::format("{}m", minutes);
    std::string fraction;
    if (ms % 1000 != 0) {
        fraction = fmt::format(".{:03}", ms % 1000);
        while (fraction.back() == '0') fraction.pop_back();
    }
    return out + fmt::format("{}{}s", seconds, fraction);
}

}  // namespace k8sgpu::providers::process
