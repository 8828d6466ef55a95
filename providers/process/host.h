// What this host offers as a node. Reads the kernel's figures; any thread.
#pragma once

#include <map>
#include <string>

#include "common/result.h"

namespace k8sgpu::providers::process {

// cpu (whole cores that this process may use), memory and ephemeral-storage (of the file system that holds
// `state_directory`) in Ki, pods 110; then `overrides`, which may add resources ("nvidia.com/gpu": "8") and,
// with an empty value, take one away.
Result<std::map<std::string, std::string>> host_capacity(const std::string& state_directory,
                                                         const std::map<std::string, std::string>& overrides);

}  // namespace k8sgpu::providers::process
