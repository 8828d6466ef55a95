// How a remote command ended, from the Status object on its error stream (stream protocol v4 and v5). Pure;
// any thread.
#pragma once

#include <string_view>

#include "common/result.h"
#include "providers/port/exec.h"

namespace k8sgpu::providers::kubernetes {

// The exit code, or Internal with the runtime's own text when the command could not be run. Nothing at all on
// the stream is Unavailable: the connection ended first, and taking that for success would lose a failure.
Result<ExitStatus> parse_exec_status(std::string_view text);

}  // namespace k8sgpu::providers::kubernetes
