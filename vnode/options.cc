#include "vnode/options.h"

#include <arpa/inet.h>
#include <yaml-cpp/yaml.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <set>

#include "common/file.h"
#include "csr/signer.h"
#include "kube/quantity.h"

namespace k8sgpu::vnode {
namespace {

using Check = Result<void>;

Unexpected bad(const std::string& message) {
    return fail(ErrorKind::Invalid, message);
}

enum class Shape { Value, Switch };

// One option: everything about it in one place.
struct Row {
    const char* group;
    const char* name;  // flag, config key; the environment variable is K8SGPU_<NAME>
    Shape shape;
    const char* value;  // how --help names the value; "" for a switch
    const char* fallback;
    const char* help;
    std::function<Check(Options&, const std::string&)> set;
};

Check set_bool(bool& target, const std::string& text) {
    if (text == "true" || text == "1") {
        target = true;
    } else if (text == "false" || text == "0") {
        target = false;
    } else {
        return bad(fmt::format("\"{}\" is neither true nor false", text));
    }
    return {};
}

Check set_port(std::uint16_t& target, const std::string& text) {
    unsigned value = 0;
    const auto parsed = std::from_chars(text.data(), text.data() + text.size(), value);
    if (parsed.ec != std::errc{} || parsed.ptr != text.data() + text.size() || value == 0 || value > 65535) {
        return bad(fmt::format("\"{}\" is not a port; write a number from 1 to 65535", text));
    }
    target = static_cast<std::uint16_t>(value);
    return {};
}

Check set_ip(std::string& target, const std::string& text) {
    unsigned char buffer[16];
    if (inet_pton(AF_INET, text.c_str(), buffer) != 1 && inet_pton(AF_INET6, text.c_str(), buffer) != 1) {
        return bad(fmt::format("\"{}\" is not an IPv4 or IPv6 address", text));
    }
    target = text;
    return {};
}

// RFC 1123 subdomain, as Kubernetes demands of object names.
Check set_object_name(std::string& target, const std::string& text) {
    const auto allowed = [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.';
    };
    const auto edge = [](char c) { return c != '-' && c != '.'; };
    if (text.empty() || text.size() > 253 || !std::all_of(text.begin(), text.end(), allowed) ||
        !edge(text.front()) || !edge(text.back())) {
        return bad(fmt::format(
            "\"{}\" is not a Kubernetes name: lower-case letters, digits, '-' and '.', at most 253", text));
    }
    target = text;
    return {};
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

const std::vector<Row>& table() {
    static const std::vector<Row> rows = {
        {"Node", "kubeconfig", Shape::Value, "FILE", "",
         "local cluster: kubeconfig; empty: $KUBECONFIG, then the pod's service account, then ~/.kube/config",
         text<&Options::kubeconfig>()},
        {"Node", "node-name", Shape::Value, "NAME", "k8s.gpu", "name of the Node",
         object_name<&Options::node_name>()},
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
         set_capacity},
        {"Node", "pod-ip", Shape::Value, "remote|none", "remote",
         "status.podIP: the address at the provider, or none, so that Services skip these pods",
         [](Options& o, const std::string& v) -> Check {
             if (v != "remote" && v != "none")
                 return bad(fmt::format("\"{}\" is unknown; write remote or none", v));
             o.pod_ip = v == "remote" ? PodIpPolicy::Remote : PodIpPolicy::None;
             return {};
         }},
        {"Provider", "provider", Shape::Value, "kubernetes|process", "kubernetes",
         "where pods run: a namespace of a remote cluster, or processes of this host",
         [](Options& o, const std::string& v) -> Check {
             if (v != "kubernetes" && v != "process") {
                 return bad(fmt::format("\"{}\" is unknown; write kubernetes or process", v));
             }
             o.provider = v == "kubernetes" ? ProviderKind::Kubernetes : ProviderKind::Process;
             return {};
         }},
        {"Provider", "remote-kubeconfig", Shape::Value, "FILE", "/tmp/client.kubeconfig",
         "kubernetes: kubeconfig of the tenant", text<&Options::remote_kubeconfig>()},
        {"Provider", "k8sgpu-tenant-name", Shape::Value, "NAME", "", "kubernetes: name of the tenant",
         text<&Options::tenant_name>()},
        {"Provider", "k8sgpu-namespace-name", Shape::Value, "NAME", "gpu",
         "kubernetes: the tenant's namespace", object_name<&Options::remote_namespace>()},
        {"Provider", "remote-runtime-class", Shape::Value, "same|none|NAME", "same",
         "kubernetes: runtimeClassName of the remote pod: as the pod says, none, or always this one",
         text<&Options::remote_runtime_class>()},
        {"Provider", "state-dir", Shape::Value, "DIR", "/var/lib/k8sgpu",
         "pods of the process provider; certificates, unless --cert-dir or --cert-secret says otherwise",
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
        {"Operation", "zap-devel", Shape::Switch, "", "false", "K8sGPU's name for --log-level=debug",
         [](Options& o, const std::string& v) -> Check {
             bool verbose = false;
             if (auto parsed = set_bool(verbose, v); !parsed) return parsed;
             if (verbose) o.log_level = LogLevel::Debug;
             return {};
         }},
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
         }},
    };
    return rows;
}

std::string environment_name(std::string name) {
    for (char& c : name) c = c == '-' ? '_' : static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
    // --k8sgpu-tenant-name already carries the product's name.
    return name.starts_with("K8SGPU_") ? name : "K8SGPU_" + name;
}

Check apply(const Row& row, Options& options, const std::string& value, const std::string& where) {
    auto done = row.set(options, value);
    if (!done) return fail(done.error().with_context(where));
    return {};
}

Check apply_config_file(Options& options, const std::string& path, const std::set<std::string>& overridden) {
    const auto content = read_file(path, 1U << 20U);
    if (!content) return fail(content.error().with_context("--config"));
    YAML::Node file;
    try {
        file = YAML::Load(*content);
    } catch (const YAML::Exception& e) {
        return bad(fmt::format("--config {}: {}", path, e.what()));
    }
    if (!file.IsMap()) return bad(fmt::format("--config {}: not a map of option: value", path));
    for (const auto& entry : file) {
        const std::string key = entry.first.as<std::string>("");
        const auto row =
            std::find_if(table().begin(), table().end(), [&](const Row& r) { return key == r.name; });
        const std::string where = fmt::format("{}: {}", path, key);
        if (row == table().end()) return bad(where + ": no such option; see k8sgpu --help");
        if (!entry.second.IsScalar())
            return bad(where + ": write one value as on the command line, in quotes if needed");
        if (overridden.contains(key)) continue;
        if (auto done = apply(*row, options, entry.second.as<std::string>(""), where); !done) return done;
    }
    return {};
}

// What is wrong only in combination.
Check check_together(const Options& options) {
    if (options.provider == ProviderKind::Kubernetes && options.remote_kubeconfig.empty()) {
        return bad("--remote-kubeconfig is empty; name the tenant's kubeconfig, or use --provider=process");
    }
    if (!options.cert_dir.empty() && !options.cert_secret.empty()) {
        return bad("--cert-dir and --cert-secret exclude each other; give one of them");
    }
    return {};
}

struct TakenOptions {
    std::map<std::string, std::string> given;
    std::vector<std::string> rest;  // what is no option of the table
};

// The options of the table, out of the arguments. CLI11 would take "--option=" for an option without a
// value and "--switch=false" for true. The last one counts.
Result<TakenOptions> take_options(const std::vector<std::string>& arguments) {
    TakenOptions taken;
    for (std::size_t i = 0; i < arguments.size(); ++i) {
        const std::string& argument = arguments[i];
        const std::size_t equals = argument.find('=');
        const auto row = std::find_if(table().begin(), table().end(), [&](const Row& r) {
            return argument.substr(0, equals) == std::string("--") + r.name;
        });
        if (row == table().end()) {
            taken.rest.push_back(argument);
        } else if (equals != std::string::npos) {
            taken.given[row->name] = argument.substr(equals + 1);
        } else if (row->shape == Shape::Switch) {
            taken.given[row->name] = "true";
        } else if (i + 1 < arguments.size() && !arguments[i + 1].starts_with("--")) {
            taken.given[row->name] = arguments[++i];
        } else {
            return bad(fmt::format("{} has no value; write {}={}", argument, argument, row->value));
        }
    }
    return taken;
}

std::string nearest_option(const std::string& unknown) {
    std::string best;
    std::size_t best_distance = 4;
    for (const Row& row : table()) {
        const std::string name = row.name;
        std::vector<std::size_t> previous(name.size() + 1), current(name.size() + 1);
        for (std::size_t j = 0; j <= name.size(); ++j) previous[j] = j;
        for (std::size_t i = 1; i <= unknown.size(); ++i) {
            current[0] = i;
            for (std::size_t j = 1; j <= name.size(); ++j) {
                const std::size_t change = previous[j - 1] + (unknown[i - 1] == name[j - 1] ? 0 : 1);
                current[j] = std::min({previous[j] + 1, current[j - 1] + 1, change});
            }
            std::swap(previous, current);
        }
        if (previous[name.size()] < best_distance) {
            best_distance = previous[name.size()];
            best = name;
        }
    }
    return best;
}

}  // namespace

Result<std::pair<std::string, std::uint16_t>> parse_bind_address(const std::string& text) {
    const std::size_t colon = text.rfind(':');
    if (colon == std::string::npos)
        return bad(fmt::format("\"{}\" has no port; write :8081 or IP:8081", text));
    std::string host = text.substr(0, colon);
    if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
    if (!host.empty()) {
        if (auto parsed = set_ip(host, host); !parsed) return fail(parsed.error());
    }
    std::uint16_t port = 0;
    if (auto parsed = set_port(port, text.substr(colon + 1)); !parsed) return fail(parsed.error());
    return std::pair{host, port};
}

Result<Command> parse_command_line(const std::vector<std::string>& arguments, const Environment& environment,
                                   const std::string& version) {
    CLI::App app{"k8sgpu makes remote GPUs look like a node of your Kubernetes cluster.", "k8sgpu"};
    app.set_help_flag("-h,--help", "this text");
    app.set_version_flag("--version", "k8sgpu " + version);
    app.footer(
        "Every option may also be given as environment variable K8SGPU_<OPTION> (--node-name: "
        "K8SGPU_NODE_NAME) and as\n"
        "\"option: value\" in the --config file. POD_IP and POD_NAMESPACE of the downward API are read as "
        "well.\n"
        "\nTry it without a GPU and without a cluster: tools/demo");
    std::string config_file;
    app.add_option("--config", config_file, "YAML file with options")->option_text("FILE");
    // For --help only: take_options() has read them before CLI11 sees the rest.
    std::string unused;
    for (const Row& row : table()) {
        const std::string flag = std::string("--") + row.name;
        const std::string fallback = row.fallback;
        const std::string help = fallback.empty() ? row.help : fmt::format("{} [{}]", row.help, fallback);
        CLI::Option* option =
            row.shape == Shape::Switch ? app.add_flag(flag, help) : app.add_option(flag, unused, help);
        if (row.shape == Shape::Value) option->option_text(row.value);
        option->group(row.group);
    }
    auto* version_command = app.add_subcommand("version", "print the version");
    app.add_subcommand("process-shim", "")->group("")->prefix_command();
    app.require_subcommand(0, 1);

    if (!arguments.empty() && arguments.front() == "process-shim")
        return Command{Command::Kind::ProcessShim, {}, ""};
    auto taken = take_options(arguments);
    if (!taken) return fail(taken.error());
    const std::map<std::string, std::string>& given = taken->given;
    try {
        std::vector<std::string> reversed(taken->rest.rbegin(), taken->rest.rend());
        app.parse(reversed);
    } catch (const CLI::CallForHelp&) {
        return Command{Command::Kind::ShowText, {}, app.help()};
    } catch (const CLI::CallForVersion&) {
        return Command{Command::Kind::ShowText, {}, "k8sgpu " + version + "\n"};
    } catch (const CLI::ExtrasError&) {
        const auto extra = app.remaining().empty() ? std::string("?") : app.remaining().front();
        std::string bare = extra.substr(std::min(extra.find_first_not_of('-'), extra.size()));
        bare = bare.substr(0, bare.find('='));
        const std::string nearest = nearest_option(bare);
        return bad(fmt::format("unknown argument {}; {}", extra,
                               nearest.empty() ? "see k8sgpu --help" : "did you mean --" + nearest + "?"));
    } catch (const CLI::ParseError& e) {
        return bad(fmt::format("{}; see k8sgpu --help", e.what()));
    }
    if (version_command->parsed()) return Command{Command::Kind::ShowText, {}, "k8sgpu " + version + "\n"};

    Command command;
    Options& options = command.options;
    std::map<std::string, std::string> from_environment;
    std::set<std::string> overridden;
    for (const Row& row : table()) {
        if (given.contains(row.name)) overridden.insert(row.name);
        const std::string value = environment(environment_name(row.name));
        if (value.empty()) continue;
        from_environment[row.name] = value;
        overridden.insert(row.name);
    }
    if (config_file.empty()) config_file = environment("K8SGPU_CONFIG");
    if (!config_file.empty()) {
        if (auto done = apply_config_file(options, config_file, overridden); !done) return fail(done.error());
    }
    for (const Row& row : table()) {
        if (const auto flag = given.find(row.name); flag != given.end()) {
            if (auto done = apply(row, options, flag->second, std::string("--") + row.name); !done)
                return fail(done.error());
        } else if (const auto variable = from_environment.find(row.name);
                   variable != from_environment.end()) {
            if (auto done = apply(row, options, variable->second, environment_name(row.name)); !done) {
                return fail(done.error());
            }
        }
    }
    if (options.node_ip.empty() && !environment("POD_IP").empty()) {
        if (auto done = set_ip(options.node_ip, environment("POD_IP")); !done)
            return fail(done.error().with_context("POD_IP"));
    }
    if (!environment("POD_NAMESPACE").empty()) options.pod_namespace = environment("POD_NAMESPACE");
    if (auto done = check_together(options); !done) return fail(done.error());
    return command;
}

std::string options_page() {
    std::string page =
        "# Options\n\n"
        "Precedence: flag, environment variable, `--config` file, default. A flag may be written "
        "`--flag=value` or "
        "`--flag value`;\n"
        "one without a value in the table is a switch: `--flag` or `--flag=false`. The file is YAML with the "
        "same "
        "names:\n\n"
        "```yaml\nnode-name: k8s.gpu\ncapacity: cpu=64,memory=512Gi,nvidia.com/gpu=8\ncsr-approve: "
        "false\n```\n\n"
        "`POD_IP` and `POD_NAMESPACE` of the downward API are read as well. `k8sgpu --help` prints the same "
        "table.\n";
    const auto escaped = [](std::string text) {
        for (std::size_t i = 0; (i = text.find_first_of("|<", i)) != std::string::npos; i += 2)
            text.insert(i, "\\");
        return text;
    };
    std::string group;
    for (const Row& row : table()) {
        if (group != row.group) {
            group = row.group;
            page += fmt::format(
                "\n## {}\n\n| flag | environment | default | meaning |\n| --- | --- | --- | --- |\n", group);
        }
        const std::string value = escaped(row.value);
        page +=
            fmt::format("| `--{}{}` | `{}` | {} | {} |\n", row.name, value.empty() ? "" : "=" + value,
                        environment_name(row.name),
                        *row.fallback == '\0' ? "" : fmt::format("`{}`", row.fallback), escaped(row.help));
    }
    return page;
}

}  // namespace k8sgpu::vnode
