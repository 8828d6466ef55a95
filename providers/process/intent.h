// What a shim is told to run: the pod with everything resolved (environment, users, limits), as pod.json
// holds it. Written by the agent before the shim starts and never changed. Plain values; any thread.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "common/clock.h"
#include "common/json.h"
#include "common/pod_id.h"
#include "common/result.h"

namespace k8sgpu::providers::process {

enum class RestartPolicy { Always, OnFailure, Never };

// As whom a process runs. Without `switch_user` it keeps the agent's user and groups.
struct Identity {
    bool switch_user = false;
    uid_t uid = 0;
    gid_t gid = 0;
    std::vector<gid_t> groups;
    bool no_new_privileges = false;
    std::vector<int> dropped_capabilities;  // numbers of capabilities(7), dropped from the bounding set
};

struct ContainerIntent {
    std::string name;
    std::string image;  // a label only: nothing is pulled
    bool init = false;
    std::vector<std::string> argv;                  // at least one element
    std::vector<std::string> environment;           // "NAME=value"
    std::string directory;                          // empty: the pod's own
    bool in = false, in_once = false, tty = false;  // stdin, stdinOnce, tty of the main process
    Json checks = Json::object();                   // probes, hooks and ports (handler.h); empty: none
    bool message_from_log = false;                  // terminationMessagePolicy: FallbackToLogsOnError
    Identity identity;
    std::vector<int> gpus;  // indices held by this container alone
};

// The kubelet's numbers; tests make them small.
struct ShimLimits {
    Duration backoff_initial{10'000};
    Duration backoff_cap{300'000};
    Duration backoff_reset{600'000};  // a run that ends this long after the last restart starts over
    std::int64_t log_bytes = 10 << 20;
    int log_files = 5;  // including the one being written
};

struct PodIntent {
    PodId id;
    RestartPolicy restart = RestartPolicy::Always;
    std::chrono::seconds grace{30};  // when the pod ends by itself (deadline, host shutdown)
    std::optional<std::chrono::seconds> active_deadline;
    std::vector<ContainerIntent> containers;  // init containers first, each list in the order of the spec
    std::vector<std::string> pod_ips;
    ShimLimits limits;
};

Json to_json(const PodIntent& intent);
Result<PodIntent> intent_from_json(const Json& json);
Result<PodIntent> read_intent(const std::string& path);

// What the agent wants of a running shim (orders.json). A later order never lengthens an earlier grace.
struct Orders {
    std::optional<std::chrono::seconds> stop_grace;  // set: end the pod
    // Replaces PodIntent::active_deadline when set; counted from the pod's start, like that.
    std::optional<std::chrono::seconds> active_deadline;
};

Json to_json(const Orders& orders);
Result<Orders> read_orders(const std::string& path);  // NotFound when none was given

}  // namespace k8sgpu::providers::process
