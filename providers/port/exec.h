// A provider's optional ability to run a command in a container, and to attach to its main process.
// See provider.h for threads and lifetime.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/call_context.h"
#include "common/pod_id.h"
#include "net/byte_stream.h"

namespace k8sgpu::providers {

struct ExecRequest {
    PodId pod;
    std::string container;
    std::vector<std::string> command;  // argv, never joined; empty for attach
    bool tty = false;
};

struct TerminalSize {
    std::uint16_t width = 0;
    std::uint16_t height = 0;
};

// The caller's ends of the session, each net::Pollable. Streams that were not asked for are null. The
// provider reads stdin_stream until it ends (which does not end the command) and writes the others; with a
// tty everything goes to stdout_stream.
class ExecIo {
  public:
    virtual ~ExecIo() = default;
    virtual net::ByteStream* stdin_stream() = 0;
    virtual net::ByteStream* stdout_stream() = 0;
    virtual net::ByteStream* stderr_stream() = 0;
    // The next terminal size, the latest if several came; nullopt when there will be no more. Blocks.
    virtual Result<std::optional<TerminalSize>> next_size(const CallContext& ctx) = 0;
};

struct ExitStatus {
    int code = 0;  // 0…255; 128 + signal when killed
};

class Executor {
  public:
    virtual ~Executor() = default;
    // Runs the command to its end and returns its exit code, after all its output was written. When the
    // context ends (client gone, pod removed, shutdown) the command is hung up where the backend allows it.
    // Errors: NotFound (container not running), Internal with the runtime's text (command cannot be started).
    virtual Result<ExitStatus> exec(const ExecRequest& request, ExecIo& io, const CallContext& ctx) = 0;
};

class Attacher {
  public:
    virtual ~Attacher() = default;
    // Joins the container's main process until it ends or the context does.
    virtual Result<void> attach(const ExecRequest& request, ExecIo& io, const CallContext& ctx) = 0;
};

// Connections into the network of one pod, on behalf of one client. Used by one thread at a time; the
// streams that it made go first.
class PodPorts {
  public:
    virtual ~PodPorts() = default;
    // A connection with `port` of the pod's own loopback (127.0.0.1, then ::1). The stream is net::Pollable,
    // since one thread serves all connections of a session. Unavailable with the backend's text when nothing
    // listens there; a backend that learns this late says it as the error of the first read.
    virtual Result<std::unique_ptr<net::ByteStream>> connect(std::uint16_t port, const CallContext& ctx) = 0;
};

class PortForwarder {
  public:
    virtual ~PortForwarder() = default;
    // For one session of a client. Quick: what takes time belongs into connect().
    virtual std::unique_ptr<PodPorts> ports_of(const PodId& pod) = 0;
};

}  // namespace k8sgpu::providers
