// Kubeconfig files: read, merged and resolved as kubectl does, down to the one ClientConfig that a context
// stands for. Messages are one line and name file, entry, field and the way out; values that may be secret
// are never in them.
//
// Reads files on the calling thread; any thread. Bounded: 4 MiB a file, 32 files.
#pragma once

#include <string>

#include "kube/client_config.h"

namespace k8sgpu::kube {

struct KubeconfigOptions {
    std::string context;  // "" = the file's current-context
    // Refuse a kubeconfig, and files that it names, which group or others may write or which belong to
    // another user: whoever can change one chooses the programs that we run (exec plugins).
    bool trusted_only = false;
};

// `paths` is one path, or a list in the manner of $KUBECONFIG ("a:b"). In a list missing files are skipped
// unless all are; the first file that has an entry or the current-context wins. Relative paths inside are
// relative to the file they stand in. Errors: NotFound (no file), Invalid, Forbidden.
Result<ClientConfig> load_kubeconfig(const std::string& paths, const KubeconfigOptions& options = {});

// Where a daemon looks: `flag` when not empty, then $KUBECONFIG, then the pod's service account, then
// ~/.kube/config.
Result<ClientConfig> find_client_config(const std::string& flag, const KubeconfigOptions& options,
                                        const Environment& environment);

}  // namespace k8sgpu::kube
