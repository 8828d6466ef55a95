// Runs a program to its end without a shell: bounded output, a deadline, no terminal, no inherited
// descriptors. The program gets a process group of its own, which is killed whole when time is up.
//
// Blocks the calling thread; any thread. Errors: NotFound (no such program), Forbidden (not executable),
// Timeout, Cancelled, Invalid (too much output), Internal.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "common/call_context.h"
#include "common/result.h"

namespace k8sgpu::kube {

struct Command {
    std::string program;  // a path, or a name to look up in PATH
    std::vector<std::string> args;
    std::vector<std::pair<std::string, std::string>> env;  // added to our own environment, winning over it
    std::size_t max_output = 1U << 20U;                    // of standard output
};

struct CommandResult {
    int exit_code = 0;  // 128 + n when signal n ended it
    std::string out;
    std::string err;  // the last 4 KiB
};

Result<CommandResult> run_command(const Command& command, const CallContext& ctx);

}  // namespace k8sgpu::kube
