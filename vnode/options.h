// Every option of the daemon, from one table: flag, environment variable, config file key, --help text and
// check. Names are K8sGPU's and the kubelet's where those have one. Precedence: flag, environment, config
// file, default.
//
// Pure but for reading the config file; called by main before any thread exists.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "common/log.h"
#include "common/result.h"
#include "vnode/node_object.h"
#include "vnode/pod_status.h"

namespace k8sgpu::vnode {

enum class ProviderKind { Kubernetes, Process, Simulated };

std::string_view to_string(ProviderKind kind);  // as --provider takes it

// Of `k8sgpu drain` and `k8sgpu uninstall`; names and meanings are kubectl drain's.
struct DrainOptions {
    bool force = false;                 // also pods that no controller makes again
    bool ignore_daemonsets = false;     // leave pods of DaemonSets where they are
    bool delete_emptydir_data = false;  // also pods with emptyDir volumes
    bool disable_eviction = false;      // delete instead of evict: PodDisruptionBudgets do not count
    std::int64_t grace_period = -1;     // seconds; -1: each pod's own
    Duration timeout{0};                // 0: no end
    bool dry_run = false;
    std::string pod_selector;
    bool abandon_pods = false;  // uninstall: remove the Node although pods of it remain
};

struct Options {
    // Node
    std::string kubeconfig;  // "" = $KUBECONFIG, in-cluster, ~/.kube/config
    std::string node_name = "k8s.gpu";
    std::string node_ip;  // "" = POD_IP, else the address of the route to the API server
    std::string listen_address;
    std::uint16_t port = 10250;
    std::map<std::string, std::string> node_labels;
    std::vector<Taint> taints = {{"k8s.gpu/remote", "", "NoSchedule"}};
    std::map<std::string, std::string> capacity;  // overrides what the provider reports
    PodIpPolicy pod_ip = PodIpPolicy::Remote;
    std::string pod_namespace = "kube-system";  // our own, for the certificate Secret

    // Provider
    ProviderKind provider = ProviderKind::Kubernetes;
    std::string remote_kubeconfig = "/tmp/client.kubeconfig";
    std::string tenant_name;
    std::string remote_namespace = "gpu";
    std::string remote_runtime_class = "same";
    LinkPolicy link_policy;
    std::string state_dir = "/var/lib/k8sgpu";

    // Certificates and callers
    std::string csr_signer = "kubelet";  // kubelet | aws | a full signer name
    bool csr_approve = true;
    std::string cert_dir;     // "" = <state_dir>/pki unless cert_secret is set
    std::string cert_secret;  // name in pod_namespace; "" = directory
    std::string client_ca_file;
    std::string tls_min_version = "VersionTLS12";
    std::string tls_cipher_suites;  // IANA names, comma-separated; "" = the library's default

    // Operation
    std::string health_bind_address = ":8081";
    bool leader_elect = false;
    Duration shutdown_grace{20'000};

    DrainOptions drain;
    LogLevel log_level = LogLevel::Info;
};

using Environment = std::function<std::string(const std::string& name)>;  // "" = not set

// What the command line asks for.
struct Command {
    enum class Kind { Run, ShowText, ProcessShim, Drain, Uninstall } kind = Kind::Run;
    Options options;
    std::string text;                           // ShowText: help or version
    std::string config_file;                    // --config; "" = none
    std::map<std::string, std::string> values;  // option → its text, for those that were given anywhere
};

// Names of the options that differ between two readings of the command line and may not change while we run.
std::vector<std::string> needing_restart(const Command& before, const Command& after);

// Invalid carries one line that says what to write instead.
Result<Command> parse_command_line(const std::vector<std::string>& arguments, const Environment& environment,
                                   const std::string& version);

// Host and port of ":8081", "0.0.0.0:8081", "[::1]:8081".
Result<std::pair<std::string, std::uint16_t>> parse_bind_address(const std::string& text);

// The table as Markdown for docs/options.md; a test keeps the page equal to it.
std::string options_page();

}  // namespace k8sgpu::vnode
