#include "providers/process/handler.h"

#include <fmt/format.h>

#include "providers/port/probe_state.h"
#include "providers/process/identity.h"

namespace k8sgpu::providers::process {
namespace {

constexpr std::int64_t kHighestPort = 65535;

// 0: no such port.
std::uint16_t port_of(const Json& action, const Json& container) {
    const Json& port = at(action, {"port"});
    std::int64_t number = port.is_number_integer() ? port.get<std::int64_t>() : 0;
    for (const Json& known : array_at(container, {"ports"})) {
        if (port.is_string() && string_at(known, {"name"}) == port.get_ref<const std::string&>())
            number = int_at(known, {"containerPort"});
    }
    return number < 1 || number > kHighestPort ? std::uint16_t{0} : static_cast<std::uint16_t>(number);
}

bool breaks_a_line(const std::string& text) {
    return text.find_first_of(std::string_view("\r\n\0", 3)) != std::string::npos;
}

Refused refuse(const std::string& what, const std::string& why, const std::string& way_out) {
    return {kUnsupported, fmt::format("{}: {}; {}", what, why, way_out)};
}

std::optional<Refused> check_handler(const Json& action, const Json& container, const std::string& field) {
    if (at(action, {"grpc"}).is_object()) {
        return refuse(field + ".grpc", "gRPC probes are not supported for processes",
                      "use exec, httpGet or tcpSocket");
    }
    for (const char* kind : {"httpGet", "tcpSocket"}) {
        const Json& target = at(action, {kind});
        if (!target.is_object()) continue;
        if (port_of(target, container) == 0) {
            return refuse(fmt::format("{}.{}.port: {}", field, kind, at(target, {"port"}).dump()),
                          "no port of this container",
                          "write a number from 1 to 65535 or the name of a port");
        }
    }
    if (!handler_of(action, container)) {
        return refuse(field, "this kind of probe or hook is not supported for processes",
                      "use exec, httpGet, tcpSocket or, in a hook, sleep");
    }
    return std::nullopt;
}

}  // namespace

std::string Handler::describe() const {
    const std::string shown = host.find(':') == std::string::npos ? host : "[" + host + "]";
    switch (kind) {
        case Kind::Exec:
            return fmt::format("{}", fmt::join(argv, " "));
        case Kind::Http:
            return fmt::format("{}://{}:{}{}", tls ? "https" : "http", shown, port, path);
        case Kind::Tcp:
            return fmt::format("{}:{}", shown, port);
        case Kind::Sleep:
            break;
    }
    return fmt::format("sleep {}", sleep.count());
}

std::optional<Handler> handler_of(const Json& action, const Json& container) {
    Handler handler;
    if (const Json& exec = at(action, {"exec"}); exec.is_object()) {
        handler.kind = Handler::Kind::Exec;
        for (const Json& word : array_at(exec, {"command"})) {
            if (!word.is_string() || word.get_ref<const std::string&>().find('\0') != std::string::npos)
                return std::nullopt;
            handler.argv.push_back(word.get<std::string>());
        }
        return handler.argv.empty() ? std::nullopt : std::optional(handler);
    }
    if (const Json& http = at(action, {"httpGet"}); http.is_object()) {
        handler.kind = Handler::Kind::Http;
        handler.host = string_at(http, {"host"});
        handler.port = port_of(http, container);
        handler.tls = string_at(http, {"scheme"}) == "HTTPS";
        handler.path = string_at(http, {"path"}, "/");
        if (handler.path.empty() || handler.path.front() != '/') handler.path.insert(0, "/");
        bool clean = !breaks_a_line(handler.path) && !breaks_a_line(handler.host);
        for (const Json& header : array_at(http, {"httpHeaders"})) {
            handler.headers.emplace_back(string_at(header, {"name"}), string_at(header, {"value"}));
            clean = clean && !breaks_a_line(handler.headers.back().first + handler.headers.back().second);
        }
        return clean && handler.port != 0 ? std::optional(handler) : std::nullopt;
    }
    if (const Json& tcp = at(action, {"tcpSocket"}); tcp.is_object()) {
        handler.kind = Handler::Kind::Tcp;
        handler.host = string_at(tcp, {"host"});
        handler.port = port_of(tcp, container);
        return handler.port != 0 ? std::optional(handler) : std::nullopt;
    }
    if (const Json& sleep = at(action, {"sleep"}); sleep.is_object()) {
        handler.sleep = std::chrono::seconds(std::max<std::int64_t>(0, int_at(sleep, {"seconds"})));
        return handler;
    }
    return std::nullopt;
}

std::optional<Refused> check_handlers(const Json& container, const std::string& field) {
    for (const ProbeKind kind : kProbeKinds) {
        const Json& probe = at(container, {field_of(kind)});
        if (!probe.is_object()) continue;
        if (auto refused = check_handler(probe, container, fmt::format("{}.{}", field, field_of(kind))))
            return refused;
    }
    for (const char* hook : {"postStart", "preStop"}) {
        const Json& action = at(container, {"lifecycle", hook});
        if (!action.is_object()) continue;
        if (auto refused = check_handler(action, container, fmt::format("{}.lifecycle.{}", field, hook)))
            return refused;
    }
    if (const std::string signal = string_at(container, {"lifecycle", "stopSignal"});
        !signal.empty() && signal != "SIGTERM") {
        return refuse(fmt::format("{}.lifecycle.stopSignal: {}", field, signal),
                      "processes are stopped by SIGTERM",
                      "remove it and handle SIGTERM, or send the signal in a preStop hook");
    }
    return std::nullopt;
}

Json checks_of(const Json& container) {
    Json checks = Json::object();
    for (const char* part : {"startupProbe", "livenessProbe", "readinessProbe", "lifecycle"}) {
        if (const Json& value = at(container, {part}); value.is_object()) checks[part] = value;
    }
    if (!checks.empty()) checks["ports"] = array_at(container, {"ports"});
    return checks;
}

}  // namespace k8sgpu::providers::process
