// One request on its way through a route: what was asked, by whom, and the means to answer. And ApiContext,
// what every route may use. Both belong to the server; a handler uses them on its connection's thread only.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "kubelet_api/api_metrics.h"
#include "kubelet_api/authn.h"
#include "kubelet_api/pod_lookup.h"
#include "kubelet_api/query.h"
#include "kubelet_api/response_writer.h"
#include "kubelet_api/server.h"
#include "kubelet_api/sessions.h"
#include "kubelet_api/stats_collector.h"
#include "net/buffer_pool.h"

namespace k8sgpu::kubelet_api {

struct ApiContext {
    Clock& clock;
    const ServerOptions& options;
    const PodLookup& pods;
    const MetricsRegistry& registry;
    ApiMetrics& metrics;
    SessionRegistry& sessions;
    const HealthCheck& health;
    StatsCollector& stats;
    std::shared_ptr<net::BufferPool> spare;  // of all stream sessions
};

// A connection that leaves HTTP.
struct RawConnection {
    std::unique_ptr<net::ByteStream> stream;
    std::string early;  // what had arrived behind the request's head
};

struct Exchange {
    const net::HttpRequestHead& head;
    const Query& query;
    const User& user;
    std::map<std::string, std::string, std::less<>> params;  // {ns}, {pod}, … of the route's pattern
    ResponseWriter& response;
    Session& connection;  // ends when the client leaves or the server stops
    CallContext ctx;      // the same as a context, with the request's time limit
    // Hands the connection over; `response` must not be used afterwards. `status` goes to the metrics.
    std::function<RawConnection(int status)> take_connection;
    int connection_number = 0;

    const std::string& param(std::string_view name) const {
        static const std::string none;
        const auto found = params.find(name);
        return found == params.end() ? none : found->second;
    }
};

using Handler = void (*)(Exchange&, ApiContext&);

}  // namespace k8sgpu::kubelet_api
