// The streaming core of exec, attach and run: joins the streams of a session (whatever protocol carries them)
// to a command that a provider runs, and tells the client how it ended.
//
//   streams by type (error, stdin, stdout, stderr, resize) ─▶ CommandIo (ExecIo) ─▶ run(io, ctx)
//   ◀─ FIN of stdout and stderr, the Status on the error stream, FIN, goodbye of the session
//
// serve_remote_command() blocks its connection thread until the command and the session have ended. The
// Status is always written before the session is closed, because clients take an error stream that ends empty
// for exit code 0.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "common/call_context.h"
#include "kubelet_api/query.h"
#include "kubelet_api/sessions.h"
#include "net/mux_session.h"
#include "providers/port/exec.h"

namespace k8sgpu::kubelet_api {

struct CommandStreams {
    bool in = false;
    bool out = false;
    bool err = false;
    bool tty = false;
};

// From input, output, error, tty. With a tty stderr is dropped silently. Invalid (message is the body of the
// 400) when nothing is asked for.
Result<CommandStreams> decode_command_streams(const Query& query);

// What the protocol version says about the end and about terminal sizes: "v4.channel.k8s.io" and the like.
struct CommandProtocol {
    bool json_status = false;  // v4 and later: a metav1.Status, on success too; before: text on failure only
    bool resize = false;       // v3 and later
};
CommandProtocol command_protocol(std::string_view negotiated);

// The bytes for the error stream. `doing`: "executing command in container", "attaching to container".
std::string command_status(const Result<providers::ExitStatus>& result, const CommandProtocol& protocol,
                           std::string_view doing);

struct CommandOptions {
    CommandStreams streams;
    CommandProtocol protocol;
    std::string doing;
    Duration stream_creation{30'000};
    Duration linger{10'000};
};

using RunCommand = std::function<Result<providers::ExitStatus>(providers::ExecIo&, const CallContext&)>;

// `session` ends the command from outside (pod removed, shutdown); its reason is what the client is told.
void serve_remote_command(net::MuxSession& mux, const CommandOptions& options, Session& session, Clock& clock,
                          const RunCommand& run);

}  // namespace k8sgpu::kubelet_api
