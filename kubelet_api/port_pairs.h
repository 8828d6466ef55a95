// Finds the two streams (error and data, same requestid) of each forwarded connection among the streams that
// a port-forward client opens. Owns the streams that wait for their other half. Not synchronised; one thread.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/clock.h"
#include "net/mux_session.h"

namespace k8sgpu::kubelet_api {

struct PortPair {
    std::string request_id;
    std::uint16_t port = 0;
    std::shared_ptr<net::MuxStream> data;
    std::shared_ptr<net::MuxStream> error;
    SteadyTime deadline;
};

class PortPairs {
  public:
    explicit PortPairs(Duration patience) : patience_(patience) {}

    struct Added {
        std::optional<PortPair> complete;
        std::string problem;  // not empty: `stream` is of no use, reset it
    };
    // Old clients send no requestid: there the error stream's id is the key, and data has that id plus 2.
    Added add(std::shared_ptr<net::MuxStream> stream, SteadyTime now);

    // Those whose other half did not come in time.
    std::vector<PortPair> take_expired(SteadyTime now);
    std::vector<PortPair> take_all();
    // SteadyTime::max() when none waits.
    SteadyTime next_deadline() const;

  private:
    Duration patience_;
    std::map<std::string, PortPair> waiting_;
};

// 1…65535, decimal; nothing otherwise.
std::optional<std::uint16_t> parse_port(std::string_view text);

}  // namespace k8sgpu::kubelet_api
