// The shim: one small process per pod, of this same program, that owns the pod's processes so that they
// outlive the agent.
//
//   agent ── spawn ──▶ process-shim --dir <pod directory>
//                        ├ takes the lock (or exits: one already runs, or one already ran)
//                        ├ forks; the first half waits for "ready" and exits 0, which the agent waits for
//                        └ second half: own session, subreaper, writes shim.json, then one poll loop:
//                             SIGCHLD ▸ reap      pipes ▸ logs      orders.json ▸ stop, deadline
//                             Machine::step() ▸ start, SIGTERM, SIGKILL      changes ▸ status.json
// It ends when Machine::ended(): status.json is then its last word, and it touches the directory no more.
// Single-threaded.
#pragma once

namespace k8sgpu::providers::process {

// Exit statuses of the first half, which the agent reads.
enum class ShimStart : int {
    Ready = 0,
    BadDirectory = 2,  // pod.json missing or unreadable; text on standard error
    AlreadyRuns = 3,   // somebody holds the lock
    AlreadyRan = 4,    // shim.json is there: never a second time
    Failed = 5,        // text on standard error
};

// `argv[0]` is ignored; expects "--dir <pod directory>".
int shim_main(int argc, char** argv);

}  // namespace k8sgpu::providers::process
