#include "vnode/option_table.h"

#include <charconv>

#include "csr/signer.h"
#include "kube/quantity.h"
#include "kubelet_api/tls_ciphers.h"
#include "vnode/option_values.h"

namespace k8sgpu::vnode {
namespace {

using Check = Result<void>;

Unexpected bad(const std::string& message) {
    return fail(ErrorKind::Invalid, message);
}

Check set_capacity(Options& options, const std::string& text) {
    auto parsed = parse_labels(text);
    if (!parsed) return fail(parsed.error());
    for (auto& [resource, quantity] : *parsed) {
        const auto value = kube::Quantity::parse(quantity);
        if (!value)
            return bad(fmt::format("{}={}: not a quantity; write cpu=64,memory=512Gi,nvidia.com/gpu=8",
                                   resource, quantity));
        options.capacity[resource] = quantity;
    }
    return {};
}

template <auto Member>
std::function<Check(Options&, const std::string&)> text() {
    return [](Options& options, const std::string& value) -> Check {
        options.*Member = value;
        return {};
    };
}
template <auto Member>
std::function<Check(Options&, const std::string&)> object_name() {
    return [](Options& options, const std::string& value) { return set_object_name(options.*Member, value); };
}
template <auto Member>
std::function<Check(Options&, const std::string&)> boolean() {
    return [](Options& options, const std::string& value) { return set_bool(options.*Member, value); };
}

template <auto Member>
std::function<Check(Options&, const std::string&)> drain_switch() {
    return [](Options& options, const std::string& value) { return set_bool(options.drain.*Member, value); };
}
template <auto Member>
std::function<Check(Options&, const std::string&)> duration() {
    return [](Options& options, const std::string& value) { return set_duration(options.*Member, value); };
}

}  // namespace

const std::vector<OptionRow>& option_table() {
    static const std::vector<OptionRow> rows = {
        {"Node", "kubeconfig", Shape::Value, "FILE", "",
         "local cluster: kubeconfig; empty: $KUBECONFIG, then the pod's service account, then ~/.kube/config",
         text<&Options::kubeconfig>(), Change::AtStart, kEverywhere},
        {"Node", "node-name", Shape::Value, "NAME", "k8s.gpu", "name of the Node",
         object_name<&Options::node_name>(), Change::AtStart, kEverywhere},
        {"Node", "node-ip", Shape::Value, "IP", "",
         "InternalIP of the Node, where the API server reaches --port; empty: $POD_IP, else the address that "
         "faces the API server",
         [](Options& o, const std::string& v) { return set_ip(o.node_ip, v); }},
        {"Node", "address", Shape::Value, "IP", "", "address to listen on; empty: all",
         [](Options& o, const std::string& v) { return set_ip(o.listen_address, v); }},
        {"Node", "port", Shape::Value, "PORT", "10250", "port of the kubelet API",
         [](Options& o, const std::string& v) { return set_port(o.port, v); }},
        {"Node", "node-labels", Shape::Value, "K=V,…", "", "labels added to the Node",
         [](Options& o, const std::string& v) -> Check {
             auto labels = parse_labels(v);
             if (!labels) return fail(labels.error());
             o.node_labels = *labels;
             return {};
         }},
        {"Node", "register-with-taints", Shape::Value, "K=V:EFFECT,…", "k8s.gpu/remote:NoSchedule",
         "taints given to the Node when it is created; empty: none, as K8sGPU",
         [](Options& o, const std::string& v) -> Check {
             auto taints = parse_taints(v);
             if (!taints) return fail(taints.error());
             o.taints = *taints;
             return {};
         }},
        {"Node", "capacity", Shape::Value, "R=Q,…", "",
         "resources that the Node offers, over what the provider reports: "
         "cpu=64,memory=512Gi,nvidia.com/gpu=8",
         set_capacity, Change::WhileRunning},
        {"Node", "pod-ip", Shape::Value, "remote|none", "remote",
         "status.podIP: the address at the provider, or none, so that Services skip these pods",
         [](Options& o, const std::string& v) -> Check {
             if (v != "remote" && v != "none")
                 return bad(fmt::format("\"{}\" is unknown; write remote or none", v));
             o.pod_ip = v == "remote" ? PodIpPolicy::Remote : PodIpPolicy::None;
             return {};
         }},
        {"Provider", "provider", Shape::Value, "kubernetes|process|simulated", "kubernetes",
         "where pods run: a namespace of a remote cluster, processes of this host, or nowhere: simulated "
         "only "
         "reports what pods would do",
         [](Options& o, const std::string& v) -> Check {
             for (const auto kind :
                  {ProviderKind::Kubernetes, ProviderKind::Process, ProviderKind::Simulated}) {
                 if (v != to_string(kind)) continue;
                 o.provider = kind;
                 return {};
             }
             return bad(fmt::format("\"{}\" is unknown; write kubernetes, process or simulated", v));
         }},
        {"Provider", "remote-kubeconfig", Shape::Value, "FILE", "/tmp/client.kubeconfig",
         "kubernetes: kubeconfig of the tenant", text<&Options::remote_kubeconfig>(), Change::AtStart,
         kRun | kUninstall},
        {"Provider", "k8sgpu-tenant-name", Shape::Value, "NAME", "", "kubernetes: name of the tenant",
         text<&Options::tenant_name>()},
        {"Provider", "k8sgpu-namespace-name", Shape::Value, "NAME", "gpu",
         "kubernetes: the tenant's namespace", object_name<&Options::remote_namespace>(), Change::AtStart,
         kRun | kUninstall},
        {"Provider", "remote-runtime-class", Shape::Value, "same|none|NAME", "same",
         "kubernetes: runtimeClassName of the remote pod: as the pod says, none, or always this one",
         text<&Options::remote_runtime_class>()},
        {"Provider", "remote-unreachable-policy", Shape::Value, "keep-ready|not-ready", "keep-ready",
         "what the Node says while the provider cannot be reached: Ready and closed to new pods, or, after "
         "the "
         "grace below, NotReady, so that the cluster evicts the pods",
         [](Options& o, const std::string& v) -> Check {
             if (v != "keep-ready" && v != "not-ready")
                 return bad(fmt::format("\"{}\" is unknown; write keep-ready or not-ready", v));
             o.link_policy.not_ready = v == "not-ready";
             return {};
         },
         Change::WhileRunning},
        {"Provider", "remote-unreachable-grace", Shape::Value, "DURATION", "5m",
         "how long the provider may be unreachable before not-ready counts",
         [](Options& o, const std::string& v) { return set_duration(o.link_policy.grace, v); },
         Change::WhileRunning},
        {"Provider", "state-dir", Shape::Value, "DIR", "/var/lib/k8sgpu",
         "pods of the providers process and simulated; certificates, unless --cert-dir or --cert-secret says "
         "otherwise",
         text<&Options::state_dir>()},
        {"Security", "csr-signer", Shape::Value, "kubelet|aws|SIGNER", "kubelet",
         "who signs the serving certificate: kubernetes.io/kubelet-serving, "
         "beta.eks.amazonaws.com/app-serving, or a full signer name",
         [](Options& o, const std::string& v) -> Check {
             if (auto signer = csr::signer_name(v); !signer) return fail(signer.error());
             o.csr_signer = v;
             return {};
         }},
        {"Security", "csr-approve", Shape::Switch, "", "true",
         "approve our own certificate request, and only that", boolean<&Options::csr_approve>()},
        {"Security", "cert-dir", Shape::Value, "DIR", "",
         "directory of the serving certificate; empty: <state-dir>/pki", text<&Options::cert_dir>()},
        {"Security", "cert-secret", Shape::Value, "NAME", "",
         "keep the serving certificate in this Secret of our namespace instead of a directory",
         object_name<&Options::cert_secret>()},
        {"Security", "client-ca-file", Shape::Value, "FILE", "",
         "authorities of client certificates, added to those of "
         "kube-system/extension-apiserver-authentication",
         text<&Options::client_ca_file>()},
        {"Security", "tls-min-version", Shape::Value, "VERSION", "VersionTLS12",
         "VersionTLS12 or VersionTLS13",
         [](Options& o, const std::string& v) -> Check {
             if (v != "VersionTLS12" && v != "VersionTLS13") {
                 return bad(fmt::format("\"{}\" is not offered; write VersionTLS12 or VersionTLS13", v));
             }
             o.tls_min_version = v;
             return {};
         }},
        {"Security", "tls-cipher-suites", Shape::Value, "NAMES", "",
         "cipher suites for TLS 1.2, by IANA name, separated by commas; empty: the library's default",
         [](Options& o, const std::string& v) -> Check {
             if (auto list = kubelet_api::openssl_cipher_list(v); !list) return fail(list.error());
             o.tls_cipher_suites = v;
             return {};
         }},
        {"Operation", "health-probe-bind-address", Shape::Value, "ADDRESS", ":8081",
         "plain HTTP for /healthz and /readyz; 0 switches it off",
         [](Options& o, const std::string& v) -> Check {
             if (v != "0") {
                 if (auto parsed = parse_bind_address(v); !parsed) return fail(parsed.error());
             }
             o.health_bind_address = v;
             return {};
         }},
        {"Operation", "leader-elect", Shape::Switch, "", "false",
         "accepted for K8sGPU's chart; one replica is supported so far, and a start with it says so",
         boolean<&Options::leader_elect>()},
        {"Operation", "shutdown-grace-period", Shape::Value, "DURATION", "20s",
         "how long the end may take after SIGTERM: sessions told, statuses written; below the pod's "
         "terminationGracePeriodSeconds",
         duration<&Options::shutdown_grace>(), Change::WhileRunning},
        {"Operation", "zap-devel", Shape::Switch, "", "false", "K8sGPU's name for --log-level=debug",
         [](Options& o, const std::string& v) -> Check {
             bool verbose = false;
             if (auto parsed = set_bool(verbose, v); !parsed) return parsed;
             if (verbose) o.log_level = LogLevel::Debug;
             return {};
         },
         Change::WhileRunning},
        {"Operation", "log-level", Shape::Value, "LEVEL", "info", "debug, info or warn",
         [](Options& o, const std::string& v) -> Check {
             if (v == "debug") {
                 o.log_level = LogLevel::Debug;
             } else if (v == "info") {
                 o.log_level = LogLevel::Info;
             } else if (v == "warn") {
                 o.log_level = LogLevel::Warn;
             } else {
                 return bad(fmt::format("\"{}\" is unknown; write debug, info or warn", v));
             }
             return {};
         },
         Change::WhileRunning},
        {"Drain", "force", Shape::Switch, "", "false",
         "also pods that no controller makes again, somewhere else", drain_switch<&DrainOptions::force>(),
         Change::AtStart, kDrain | kUninstall},
        {"Drain", "grace-period", Shape::Value, "SECONDS", "-1", "for each pod; -1: what the pod says",
         [](Options& o, const std::string& v) -> Check {
             const auto end = v.data() + v.size();
             const auto parsed = std::from_chars(v.data(), end, o.drain.grace_period);
             if (parsed.ec != std::errc{} || parsed.ptr != end || o.drain.grace_period < -1 ||
                 o.drain.grace_period > 31'536'000)
                 return bad(fmt::format("\"{}\" is not a number of seconds; write -1, 0 or more", v));
             return {};
         },
         Change::AtStart, kDrain | kUninstall},
        {"Drain", "ignore-daemonsets", Shape::Switch, "", "false", "leave pods of DaemonSets where they are",
         drain_switch<&DrainOptions::ignore_daemonsets>(), Change::AtStart, kDrain | kUninstall},
        {"Drain", "delete-emptydir-data", Shape::Switch, "", "false",
         "also pods with emptyDir volumes, whose data goes with them",
         drain_switch<&DrainOptions::delete_emptydir_data>(), Change::AtStart, kDrain | kUninstall},
        {"Drain", "disable-eviction", Shape::Switch, "", "false",
         "delete instead of evict: PodDisruptionBudgets do not count",
         drain_switch<&DrainOptions::disable_eviction>(), Change::AtStart, kDrain | kUninstall},
        {"Drain", "pod-selector", Shape::Value, "SELECTOR", "", "only pods with these labels",
         [](Options& o, const std::string& v) -> Check {
             o.drain.pod_selector = v;
             return {};
         },
         Change::AtStart, kDrain},
        {"Drain", "timeout", Shape::Value, "DURATION", "0", "give up after this time; 0: never",
         [](Options& o, const std::string& v) { return set_duration(o.drain.timeout, v); }, Change::AtStart,
         kDrain | kUninstall},
        {"Drain", "dry-run", Shape::Switch, "", "false", "say what would be done, and do nothing",
         drain_switch<&DrainOptions::dry_run>(), Change::AtStart, kDrain | kUninstall},
        {"Drain", "abandon-pods", Shape::Switch, "", "false",
         "uninstall: remove the Node although pods of it remain; their copies run on at the provider",
         drain_switch<&DrainOptions::abandon_pods>(), Change::AtStart, kUninstall},
    };
    return rows;
}

}  // namespace k8sgpu::vnode
