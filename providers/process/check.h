// What processes on a host can never do, told from the pod alone, before anything is created: each refusal
// names the field, its value and the way out. What is not refused here is honoured. Pure; any thread.
//
// What an image means here: a label. The command runs in the host's own file system, so a container must name
// its command. README.md has the table of all fields.
#pragma once

#include <optional>
#include <set>
#include <string>

#include "providers/port/provider.h"
#include "providers/process/identity.h"

namespace k8sgpu::providers::process {

struct CheckFacts {
    HostUser user;
    std::set<std::string> resources;  // names that this node offers (keys of capacity())
};

std::optional<Refused> check_pod(const Json& pod, const CheckFacts& facts);

// The volume that admission adds to every pod for its service account. It is not mounted: there is no file
// system to mount it in, and no token of the local cluster is handed out.
bool is_service_account_volume(const Json& volume);

}  // namespace k8sgpu::providers::process
