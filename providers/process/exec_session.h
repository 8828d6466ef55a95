// One command run in a container on behalf of a client: the process, its pipes or terminal, and the threads
// that copy. Blocks the calling thread until the command has ended and all its output was written, or the
// context ends. Any thread; each call is a session of its own.
//
//   io.stdin ──▶ exec-in thread ──▶ pipe/pty ──▶ command ──▶ pipe/pty ──▶ calling thread ──▶ io.stdout
//   io.next_size ──▶ exec-size thread (tty)          └────▶ pipe ──▶ exec-err thread ──▶ io.stderr
#pragma once

#include <functional>

#include "providers/port/exec.h"
#include "providers/process/spawn.h"

namespace k8sgpu::providers::process {

// Takes over a hung-up process that has not ended yet, so that it is reaped when it does.
using OrphanSink = std::function<void(pid_t)>;

// `request` names command, environment, directory and user; its descriptors are set here.
Result<ExitStatus> run_exec(SpawnRequest request, bool tty, ExecIo& io, const CallContext& ctx,
                            const OrphanSink& orphan);

}  // namespace k8sgpu::providers::process
