#include <fmt/format.h>

#include "common/log.h"
#include "common/scope_exit.h"
#include "kubelet_api/port_forward_session.h"
#include "kubelet_api/port_pairs.h"
#include "kubelet_api/routes/routes.h"
#include "kubelet_api/upgrade.h"

namespace k8sgpu::kubelet_api::routes {

namespace {

constexpr std::size_t kMaxFixedPorts = 127;  // a channel is one octet and each port takes two

// Ports of the direct WebSocket form: `port` repeated or as comma lists. The error is the body of the 400.
Result<std::vector<std::uint16_t>> decode_ports(const Query& query) {
    if (!query.has("port")) return fail(ErrorKind::Invalid, "query parameter \"port\" is required");
    std::vector<std::uint16_t> ports;
    for (const std::string& value : query.all("port")) {
        std::string_view rest = value;
        while (true) {
            const auto comma = rest.find(',');
            const std::string_view text = rest.substr(0, comma);
            if (text.empty()) return fail(ErrorKind::Invalid, "query parameter \"port\" cannot be empty");
            if (text.find_first_not_of('0') == std::string_view::npos)
                return fail(ErrorKind::Invalid, fmt::format("port \"{}\" must be > 0", text));
            const auto port = parse_port(text);
            if (!port)
                return fail(ErrorKind::Invalid,
                            fmt::format("unable to parse \"{}\" as a port: not a number up to 65535", text));
            ports.push_back(*port);
            if (comma == std::string_view::npos) break;
            rest.remove_prefix(comma + 1);
        }
    }
    if (ports.size() > kMaxFixedPorts)
        return fail(ErrorKind::Invalid,
                    fmt::format("{} ports; at most {} fit into one session", ports.size(), kMaxFixedPorts));
    return ports;
}

std::vector<net::ws::Channel> channels_for(const std::vector<std::uint16_t>& ports) {
    std::vector<net::ws::Channel> channels;
    for (std::size_t i = 0; i < ports.size(); ++i) {
        for (const char* type : {"data", "error"}) {
            net::ws::Channel channel;
            channel.number = static_cast<std::uint8_t>(channels.size());
            channel.headers = {
                {"streamtype", type}, {"port", std::to_string(ports[i])}, {"requestid", std::to_string(i)}};
            channel.readable = channel.number % 2 == 0;
            channels.push_back(std::move(channel));
        }
    }
    return channels;
}

}  // namespace

void port_forward(Exchange& exchange, ApiContext& api) {
    const auto refuse = [&](int status, std::string_view text) {
        (void)exchange.response.text(status, text, exchange.ctx);
    };
    const bool websocket = exchange.head.is_upgrade_to("websocket");
    const bool direct = websocket && !offers_tunnel(exchange.head);
    std::vector<std::uint16_t> ports;
    if (direct) {
        auto decoded = decode_ports(exchange.query);
        if (!decoded) return refuse(400, decoded.error().message);
        ports = std::move(*decoded);
    }
    const auto view = api.pods.find(exchange.param("ns"), exchange.param("pod"));
    if (!view) return refuse(404, "pod does not exist");
    if (const std::string& uid = exchange.param("uid"); !uid.empty() && uid != view->id.uid)
        return refuse(404, "pod not found");
    if (view->provider->port_forwarder() == nullptr)
        return refuse(501, fmt::format("provider {} does not support port-forward", view->provider->name()));

    std::optional<StreamSession> upgraded;
    if (direct) {
        upgraded = accept_channels(exchange, api, {"v4.channel.k8s.io", "v4.base64.channel.k8s.io"},
                                   channels_for(ports), /*greet=*/false);
    } else if (websocket) {
        upgraded = accept_tunnel(exchange, api, {"portforward.k8s.io"});
    } else {
        upgraded = accept_spdy(exchange, api, {"portforward.k8s.io"});
    }
    if (!upgraded) return;

    prometheus::Gauge& open =
        api.metrics.streams.Add({{"kind", "portforward"}, {"transport", upgraded->transport}});
    open.Increment();
    const ScopeExit done([&] { open.Decrement(); });
    const auto session = api.sessions.enter(view->id.uid);
    PortForwardOptions options;
    options.stream_creation = api.options.limits.stream_creation;
    options.fixed_pairs = ports.size();
    log().info("port-forward {} by {} over {}", view->id, exchange.user.name, upgraded->transport);
    serve_port_forward(*upgraded->session, options, *view, *session, api.clock);
}

}  // namespace k8sgpu::kubelet_api::routes
