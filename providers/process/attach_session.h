// The agent's side of attach: joins a client's streams to the shim of a pod, which holds the ends of the
// container's input, output and terminal. Blocks the calling thread until the shim says that it is over or
// the context ends. Any thread; each call is a session of its own.
//
//   io.stdin ──▶ att-in thread ──▶ socket ──▶ shim ──▶ socket ──▶ calling thread ──▶ io.stdout, io.stderr
//   io.next_size ──▶ att-size thread (tty) ──▶ socket
#pragma once

#include <string>

#include "providers/port/exec.h"
#include "providers/process/paths.h"

namespace k8sgpu::providers::process {

// `shim`: who must be at the other end. Errors: NotFound (the container does not run), Unsupported (a shim of
// an older version), Unavailable (sent away; the message says why), Cancelled and Timeout of the context.
Result<void> run_attach(const PodPaths& paths, pid_t shim, const std::string& container, ExecIo& io,
                        const CallContext& ctx);

}  // namespace k8sgpu::providers::process
