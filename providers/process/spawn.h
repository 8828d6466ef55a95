// Starting a process with everything it shall have and nothing else: fork and exec with only
// async-signal-safe calls between, so it may be used from a threaded agent. Any thread.
//
// The child leads a session of its own, has default signals, umask 022, no descriptors but 0, 1 and 2, and
// exactly this environment.
#pragma once

#include <sys/types.h>

#include <string>
#include <string_view>
#include <vector>

#include "common/result.h"
#include "providers/process/intent.h"

namespace k8sgpu::providers::process {

struct SpawnRequest {
    std::vector<std::string> argv;         // argv[0] is looked up in PATH of `environment`
    std::vector<std::string> environment;  // "NAME=value"
    std::string directory = "/";
    Identity identity;
    // Ends of the caller's; the caller closes them afterwards. -1: /dev/null.
    int in = -1, out = -1, err = -1;
    bool controlling_tty = false;  // `in` is a terminal that becomes the session's
    bool die_with_parent =
        false;  // SIGKILL when the calling *thread's* process ends; only single-threaded callers
};

// The pid of the started process, whose exec has succeeded. Errors: NotFound and Forbidden when the command
// cannot be executed, Internal otherwise; texts as container runtimes write them
// (`exec: "x": executable file not found in $PATH`).
Result<pid_t> spawn(const SpawnRequest& request);

// The file that execvp() would run: `command` itself when it has a slash, else the first executable in PATH.
Result<std::string> find_executable(const std::string& command, std::string_view path);

}  // namespace k8sgpu::providers::process
