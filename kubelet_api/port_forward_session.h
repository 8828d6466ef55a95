// Serves port-forward over a stream session: each pair of streams becomes one connection into the pod, until
// the pod's side has ended. One thread, "api-fwd", carries the bytes of all of them, so that a session costs
// the same number of threads however many connections it has.
//
// serve_port_forward() blocks its connection thread, which pairs streams and connects, until the session has
// ended, and joins the other.
#pragma once

#include "common/call_context.h"
#include "kubelet_api/pod_lookup.h"
#include "kubelet_api/sessions.h"
#include "net/mux_session.h"

namespace k8sgpu::kubelet_api {

struct PortForwardOptions {
    Duration stream_creation{30'000};  // for the second half of a pair
    Duration linger{10'000};
    // Direct WebSocket form: streams are fixed and begin with the port, two octets little endian; the session
    // is over with its last connection. 0 = streams come and go as the client likes.
    std::size_t fixed_pairs = 0;
};

void serve_port_forward(net::MuxSession& mux, const PortForwardOptions& options, const PodView& pod,
                        Session& session, Clock& clock);

}  // namespace k8sgpu::kubelet_api
