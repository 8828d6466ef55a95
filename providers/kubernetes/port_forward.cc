#include "providers/kubernetes/port_forward.h"

#include <array>

#include "common/thread.h"
#include "kube/api_client.h"
#include "net/pump.h"
#include "providers/kubernetes/remote_session.h"
#include "providers/kubernetes/status_map.h"

namespace k8sgpu::providers::kubernetes {
namespace {

constexpr Duration kOpenTimeout{30'000};
constexpr Duration kLinger{1'000};
constexpr std::size_t kMaxMessage = 4096;

std::string read_text(net::ByteStream& from, const CallContext& ctx) {
    std::string text;
    std::array<char, 1024> buffer;
    while (true) {
        const auto count = from.read(buffer, ctx);
        if (!count || *count == 0) return text;
        text.append(buffer.data(), std::min(*count, kMaxMessage - text.size()));
    }
}

}  // namespace

Result<void> RemotePortForward::forward(const PodId& pod, std::uint16_t port, net::ByteStream& stream,
                                        const CallContext& ctx) {
    auto remote = locator_.locate(pod, ctx);
    if (!remote) return fail(remote.error());
    const std::string path =
        kube::resource_path(kube::resources::kPods, remote->ns, remote->name, "portforward");
    auto session = open_forward_session(remote_, path, ctx);
    if (!session) return fail(session.error().with_context("opening the remote port-forward"));
    net::MuxSession& mux = **session;

    const CallContext opening = ctx.with_timeout(kOpenTimeout);
    net::StreamHeaders headers = {
        {"streamtype", "error"}, {"port", std::to_string(port)}, {"requestid", "0"}};
    auto error = mux.open(headers, opening);
    if (!error) return fail(error.error());
    if (auto shut = (*error)->shut_write(); !shut) return shut;  // only the remote side speaks on it
    headers["streamtype"] = "data";
    auto data = mux.open(headers, opening);
    if (!data) return fail(data.error());

    std::string complaint;
    Result<void> pumped;
    {
        const std::stop_callback on_stop(ctx.stop(), [&mux] { mux.cancel(); });
        const Thread errors("rpf-error", [&](const std::stop_token&) {
            complaint = read_text(**error, ctx);
            // The data stream may never end after a failed connect.
            if (!complaint.empty()) (*data)->reset();
        });
        pumped = net::pump_both_ways(stream, **data, ctx, net::PumpUntil::SecondEnded);
        mux.close(kLinger);  // ends the error stream where the remote side did not
    }
    if (!complaint.empty()) {
        return fail(ErrorKind::Unavailable, localize(std::move(complaint), pod, remote->ns, remote->uid));
    }
    return pumped;
}

}  // namespace k8sgpu::providers::kubernetes
