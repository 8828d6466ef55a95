// Where the process provider keeps its pods. Everything that must outlive the agent is a file here; nobody
// else writes below it.
//
//   <state directory>/pods/          0711
//   └── <pod UID>/                   0711, the trace of one pod: it carries the UID and nothing else does
//       ├── pod.json                 agent, once, before the shim starts: what to run (0600: holds secrets)
//       ├── lock                     locked by the shim as long as it lives (open-file-description lock)
//       ├── shim.json                shim, once, before any container starts: its pid, start time, boot id
//       ├── status.json              shim, on every change: what is; after a shim's death, once, the agent
//       ├── orders.json              agent: what the shim shall do now (stop with this grace, deadline)
//       ├── attach/socket            shim: whoever attaches talks here (attach_protocol.h); 0700
//       ├── shim.log                 what the shim itself has to complain about
//       ├── logs/                    0700
//       │   └── <container>/<n>.log[.1 … .4]   run n of the container; .1 is the newest rotated part
//       ├── termination/<container>  what the container wrote to $K8SGPU_TERMINATION_LOG
//       └── work/                    working directory of containers that name none
//
//   pod.json ── shim.json ── status.json says ended ── directory removed
//     │             │                 └ nothing runs any more; logs are kept until remove()
//     │             └ from here on containers may have run: without a shim alive the pod is Failed
//     └ nothing ran yet: a shim may (still) be started; a new agent throws it away
//
// Pure but for the two last functions; any thread.
#pragma once

#include <string>
#include <string_view>

#include "common/result.h"

namespace k8sgpu::providers::process {

struct PodPaths {
    std::string dir;

    std::string intent() const { return dir + "/pod.json"; }
    std::string lock() const { return dir + "/lock"; }
    std::string shim() const { return dir + "/shim.json"; }
    std::string status() const { return dir + "/status.json"; }
    std::string orders() const { return dir + "/orders.json"; }
    std::string shim_log() const { return dir + "/shim.log"; }
    std::string attach() const { return dir + "/attach"; }
    std::string logs() const { return dir + "/logs"; }
    std::string container_logs(std::string_view container) const;
    std::string log(std::string_view container, int run) const;
    std::string termination() const { return dir + "/termination"; }
    std::string termination(std::string_view container) const;
    std::string work() const { return dir + "/work"; }
};

std::string pods_directory(const std::string& state_directory);
PodPaths pod_paths(const std::string& state_directory, std::string_view uid);

// A UID becomes a file name: letters, digits, '-' and '_' only, 1 to 128 of them.
bool is_safe_uid(std::string_view uid);

// This boot of the host; differs after every reboot.
Result<std::string> boot_id();

// Makes creations, renames and deletions in the directory survive a power cut.
Result<void> sync_directory(const std::string& path);

}  // namespace k8sgpu::providers::process
