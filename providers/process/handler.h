// What a probe or a hook of a container does: run a command, ask by HTTP, connect, or wait. Pure; any thread.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "common/json.h"
#include "providers/port/provider.h"

namespace k8sgpu::providers::process {

struct Handler {
    enum class Kind { Exec, Http, Tcp, Sleep };
    Kind kind = Kind::Sleep;
    std::vector<std::string> argv;  // Exec
    std::string host;               // Http, Tcp; empty: the pod's address
    std::uint16_t port = 0;
    bool tls = false;  // Http; the server's certificate is not verified, as the kubelet does it
    std::string path;
    std::vector<std::pair<std::string, std::string>> headers;
    std::chrono::seconds sleep{0};

    std::string describe() const;  // for messages: the command, or the URL
};

// `action`: a v1.Probe or v1.LifecycleHandler; `container` has the names of ports. nullopt for what cannot be
// done here; check_handlers() has said so before.
std::optional<Handler> handler_of(const Json& action, const Json& container);

// Refuses probes and hooks of the container that cannot be carried out. `field`: "spec.containers[0]".
std::optional<Refused> check_handlers(const Json& container, const std::string& field);

// The part of a container that says what to probe and when, as a shim needs it: probes, lifecycle, ports.
Json checks_of(const Json& container);

}  // namespace k8sgpu::providers::process
