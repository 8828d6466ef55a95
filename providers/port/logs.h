// A provider's optional ability to return container logs. See provider.h for threads and lifetime.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "common/call_context.h"
#include "common/pod_id.h"

namespace k8sgpu::providers {

enum class LogStreams { All, Stdout, Stderr };

// The query of containerLogs after validation (kubelet-contract: v1.PodLogOptions).
struct LogRequest {
    PodId pod;
    std::string container;
    bool follow = false;
    bool previous = false;
    bool timestamps = false;
    std::optional<std::int64_t> tail_lines;     // >= 0; 0 shows nothing old
    std::optional<std::int64_t> limit_bytes;    // >= 1; cuts in the middle of a line
    std::optional<std::int64_t> since_seconds;  // >= 1
    std::optional<WallTime> since_time;
    LogStreams streams = LogStreams::All;  // others only where the source splits_streams()
};

// Where the log goes: the HTTP response, or a string in tests.
class LogSink {
  public:
    virtual ~LogSink() = default;
    // The log was found: headers may go out, even if no byte follows for hours. Before this, an error of the
    // source still becomes an HTTP status.
    virtual Result<void> begin() = 0;
    // Whole lines where possible; delivered without further buffering. Fails once the reader has left.
    virtual Result<void> write(std::string_view bytes) = 0;
};

class LogSource {
  public:
    virtual ~LogSource() = default;
    // Returns when the log is written, or, following, when the container has ended and everything was
    // written.
    // Before begin(): NotFound (there is no such pod, container or log any more) and Invalid (a state without
    // a log) are the request's own fault and are shown to its sender; anything else is the backend's.
    virtual Result<void> logs(const LogRequest& request, LogSink& sink, const CallContext& ctx) = 0;
    // True when stdout and stderr were kept apart and LogRequest::streams is honoured.
    virtual bool splits_streams() const { return false; }
};

}  // namespace k8sgpu::providers
