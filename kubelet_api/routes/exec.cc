#include <fmt/format.h>

#include <functional>

#include "common/log.h"
#include "common/scope_exit.h"
#include "kubelet_api/pod_containers.h"
#include "kubelet_api/remote_command.h"
#include "kubelet_api/routes/routes.h"
#include "kubelet_api/upgrade.h"

namespace k8sgpu::kubelet_api::routes {

namespace {

const std::vector<std::string>& spdy_protocols() {
    static const std::vector<std::string> all = {"v4.channel.k8s.io", "v3.channel.k8s.io",
                                                 "v2.channel.k8s.io", "channel.k8s.io"};
    return all;
}

const std::vector<std::string>& channel_protocols() {
    static const std::vector<std::string> all = {"v5.channel.k8s.io", "v4.channel.k8s.io",
                                                 "v4.base64.channel.k8s.io", "channel.k8s.io",
                                                 "base64.channel.k8s.io"};
    return all;
}

// Runs the command with the request that the path and query describe.
using Run = std::function<Result<providers::ExitStatus>(const PodView&, const providers::ExecRequest&,
                                                        providers::ExecIo&, const CallContext&)>;

struct Verb {
    std::string name;   // "exec": for logs, metrics and texts
    std::string doing;  // "executing command in container"
    bool supported = false;
    std::string not_running;  // text of the 500 for a container that does not run
    Run run;
};

void serve(Exchange& exchange, ApiContext& api, const PodView& view, const CommandStreams& streams,
           const Verb& verb, const providers::ExecRequest& request) {
    if (!is_running(*view.pod, request.container)) {
        (void)exchange.response.text(500, verb.not_running, exchange.ctx);
        return;
    }
    if (!verb.supported) {
        (void)exchange.response.text(
            501, fmt::format("provider {} does not support {}", view.provider->name(), verb.name),
            exchange.ctx);
        return;
    }
    std::optional<StreamSession> upgraded;
    if (exchange.head.is_upgrade_to("websocket")) {
        auto channels = net::ws::remote_command_channels(net::MuxRole::Server,
                                                         {streams.in, streams.out, streams.err, streams.tty});
        upgraded = accept_channels(exchange, api, channel_protocols(), std::move(channels), /*greet=*/true);
    } else {
        upgraded = accept_spdy(exchange, api, spdy_protocols());
    }
    if (!upgraded) return;

    prometheus::Gauge& open =
        api.metrics.streams.Add({{"kind", verb.name}, {"transport", upgraded->transport}});
    open.Increment();
    const ScopeExit done([&] { open.Decrement(); });
    const auto session = api.sessions.enter(view.id.uid);
    CommandOptions options;
    options.streams = streams;
    options.protocol = command_protocol(upgraded->protocol);
    options.doing = verb.doing;
    options.stream_creation = api.options.limits.stream_creation;
    // On a WebSocket the channels are there from the start, the one for sizes too.
    if (upgraded->transport == "websocket") options.protocol.resize = true;
    log().info("{} {} container={} by {} over {} {}", verb.name, view.id, request.container,
               exchange.user.name, upgraded->transport, upgraded->protocol);
    serve_remote_command(
        *upgraded->session, options, *session, api.clock,
        [&](providers::ExecIo& io, const CallContext& ctx) { return verb.run(view, request, io, ctx); });
}

// Options, pod, container, in this order, then the upgrade.
struct Target {
    CommandStreams streams;
    PodView view;
    providers::ExecRequest request;
};

std::optional<Target> find_target(Exchange& exchange, ApiContext& api) {
    const auto refuse = [&](int status, std::string_view text) {
        (void)exchange.response.text(status, text, exchange.ctx);
        return std::nullopt;
    };
    auto streams = decode_command_streams(exchange.query);
    if (!streams) return refuse(400, streams.error().message);
    auto view = api.pods.find(exchange.param("ns"), exchange.param("pod"));
    const std::string& uid = exchange.param("uid");
    if (!view || (!uid.empty() && uid != view->id.uid)) return refuse(404, "pod does not exist");
    providers::ExecRequest request;
    request.pod = view->id;
    request.container = exchange.param("container");
    request.tty = streams->tty;
    return Target{*streams, std::move(*view), std::move(request)};
}

}  // namespace

void exec(Exchange& exchange, ApiContext& api) {
    auto target = find_target(exchange, api);
    if (!target) return;
    target->request.command = exchange.query.all("command");
    if (target->request.command.empty()) {
        (void)exchange.response.text(400, "you must specify at least one command for the container",
                                     exchange.ctx);
        return;
    }
    Verb verb{"exec", "executing command in container", target->view.provider->executor() != nullptr,
              fmt::format("container not found (\"{}\")", target->request.container),
              [](const PodView& view, const providers::ExecRequest& request, providers::ExecIo& io,
                 const CallContext& ctx) { return view.provider->executor()->exec(request, io, ctx); }};
    serve(exchange, api, target->view, target->streams, verb, target->request);
}

void attach(Exchange& exchange, ApiContext& api) {
    auto target = find_target(exchange, api);
    if (!target) return;
    const PodId& id = target->view.id;
    Verb verb{"attach", "attaching to container", target->view.provider->attacher() != nullptr,
              fmt::format("container {} not found in pod {}_{}", target->request.container, id.name, id.ns),
              [](const PodView& view, const providers::ExecRequest& request, providers::ExecIo& io,
                 const CallContext& ctx) -> Result<providers::ExitStatus> {
                  auto attached = view.provider->attacher()->attach(request, io, ctx);
                  if (!attached) return fail(attached.error());
                  return providers::ExitStatus{0};
              }};
    serve(exchange, api, target->view, target->streams, verb, target->request);
}

}  // namespace k8sgpu::kubelet_api::routes
