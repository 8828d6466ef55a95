#include "vnode/options.h"

#include <yaml-cpp/yaml.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <set>

#include "common/file.h"
#include "vnode/option_table.h"
#include "vnode/option_values.h"

namespace k8sgpu::vnode {
namespace {

using Check = Result<void>;

Unexpected bad(const std::string& message) {
    return fail(ErrorKind::Invalid, message);
}

std::string environment_name(std::string name) {
    for (char& c : name) c = c == '-' ? '_' : static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
    // --k8sgpu-tenant-name already carries the product's name.
    return name.starts_with("K8SGPU_") ? name : "K8SGPU_" + name;
}

Check apply(const OptionRow& row, Options& options, const std::string& value, const std::string& where) {
    auto done = row.set(options, value);
    if (!done) return fail(done.error().with_context(where));
    return {};
}

Check apply_config_file(Command& command, const std::string& path, const std::set<std::string>& overridden) {
    const auto content = read_trusted_file(path, 1U << 20U);
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
        const auto row = std::find_if(option_table().begin(), option_table().end(),
                                      [&](const OptionRow& r) { return key == r.name; });
        const std::string where = fmt::format("{}: {}", path, key);
        if (row == option_table().end()) return bad(where + ": no such option; see k8sgpu --help");
        if (!entry.second.IsScalar())
            return bad(where + ": write one value as on the command line, in quotes if needed");
        if (overridden.contains(key)) continue;
        const std::string value = entry.second.as<std::string>("");
        if (auto done = apply(*row, command.options, value, where); !done) return done;
        command.values[key] = value;
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
Result<TakenOptions> take_options(const std::vector<std::string>& arguments, unsigned commands) {
    TakenOptions taken;
    for (std::size_t i = 0; i < arguments.size(); ++i) {
        const std::string& argument = arguments[i];
        const std::size_t equals = argument.find('=');
        const auto row = std::find_if(option_table().begin(), option_table().end(), [&](const OptionRow& r) {
            return (r.commands & commands) != 0 && argument.substr(0, equals) == std::string("--") + r.name;
        });
        if (row == option_table().end()) {
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

std::string nearest_option(const std::string& unknown, unsigned commands) {
    std::string best;
    std::size_t best_distance = 4;
    for (const OptionRow& row : option_table()) {
        if ((row.commands & commands) == 0) continue;
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

// Which command the first word asks for, and how its help begins and ends.
struct Spoken {
    Command::Kind kind = Command::Kind::Run;
    unsigned commands = kRun;
    std::string name = "k8sgpu";
    std::string description = "k8sgpu makes remote GPUs look like a node of your Kubernetes cluster.";
    std::string footer =
        "Every option may also be given as environment variable K8SGPU_<OPTION> (--node-name: "
        "K8SGPU_NODE_NAME) and as\n"
        "\"option: value\" in the --config file. POD_IP and POD_NAMESPACE of the downward API are read as "
        "well.\n"
        "\nTry it without a GPU and without a cluster: tools/demo";
    std::vector<std::string> arguments;  // without the command
};

Spoken spoken_command(const std::vector<std::string>& arguments) {
    Spoken spoken;
    spoken.arguments = arguments;
    const std::string word = arguments.empty() ? "" : arguments.front();
    if (word != "drain" && word != "uninstall") return spoken;
    spoken.arguments.erase(spoken.arguments.begin());
    spoken.name = "k8sgpu " + word;
    if (word == "drain") {
        spoken.kind = Command::Kind::Drain;
        spoken.commands = kDrain;
        spoken.description =
            "Closes the node to new pods and evicts those it has, as kubectl drain does; waits until they "
            "are "
            "gone. The agent must run: it ends the copies at the provider.";
    } else {
        spoken.kind = Command::Kind::Uninstall;
        spoken.commands = kUninstall;
        spoken.description =
            "Drains the node, waits until nothing of it is left at the provider, waits for you to stop the "
            "agent, "
            "and removes Node, Lease and certificate requests.";
    }
    spoken.footer =
        "Permissions: manifests/operator-role.yaml. Exit code 0: done; 1: not done, and the message says "
        "why.";
    return spoken;
}

}  // namespace

std::string_view to_string(ProviderKind kind) {
    switch (kind) {
        case ProviderKind::Process:
            return "process";
        case ProviderKind::Simulated:
            return "simulated";
        default:
            return "kubernetes";
    }
}

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
    if (!arguments.empty() && arguments.front() == "process-shim")
        return Command{Command::Kind::ProcessShim, {}, "", "", {}};
    const Spoken spoken = spoken_command(arguments);
    CLI::App app{spoken.description, spoken.name};
    app.set_help_flag("-h,--help", "this text");
    app.set_version_flag("--version", "k8sgpu " + version);
    app.footer(spoken.footer);
    std::string config_file;
    app.add_option("--config", config_file, "YAML file with options")->option_text("FILE");
    // For --help only: take_options() has read them before CLI11 sees the rest.
    std::string unused;
    for (const OptionRow& row : option_table()) {
        if ((row.commands & spoken.commands) == 0) continue;
        const std::string flag = std::string("--") + row.name;
        const std::string fallback = row.fallback;
        const std::string help = fallback.empty() ? row.help : fmt::format("{} [{}]", row.help, fallback);
        CLI::Option* option =
            row.shape == Shape::Switch ? app.add_flag(flag, help) : app.add_option(flag, unused, help);
        if (row.shape == Shape::Value) option->option_text(row.value);
        option->group(row.group);
    }
    CLI::App* version_command = nullptr;
    if (spoken.kind == Command::Kind::Run) {
        version_command = app.add_subcommand("version", "print the version");
        app.add_subcommand("drain", "empty the node: k8sgpu drain --help");
        app.add_subcommand("uninstall", "empty the node and remove it: k8sgpu uninstall --help");
        app.require_subcommand(0, 1);
    }
    auto taken = take_options(spoken.arguments, spoken.commands);
    if (!taken) return fail(taken.error());
    const std::map<std::string, std::string>& given = taken->given;
    try {
        std::vector<std::string> reversed(taken->rest.rbegin(), taken->rest.rend());
        app.parse(reversed);
    } catch (const CLI::CallForHelp&) {
        return Command{Command::Kind::ShowText, {}, app.help(), "", {}};
    } catch (const CLI::CallForVersion&) {
        return Command{Command::Kind::ShowText, {}, "k8sgpu " + version + "\n", "", {}};
    } catch (const CLI::ExtrasError&) {
        const auto extra = app.remaining().empty() ? std::string("?") : app.remaining().front();
        std::string bare = extra.substr(std::min(extra.find_first_not_of('-'), extra.size()));
        bare = bare.substr(0, bare.find('='));
        const std::string nearest = nearest_option(bare, spoken.commands);
        return bad(fmt::format("unknown argument {}; {}", extra,
                               nearest.empty() ? "see k8sgpu --help" : "did you mean --" + nearest + "?"));
    } catch (const CLI::ParseError& e) {
        return bad(fmt::format("{}; see k8sgpu --help", e.what()));
    }
    for (const char* late : {"drain", "uninstall"}) {
        if (spoken.kind == Command::Kind::Run && app.get_subcommand(late)->parsed())
            return bad(fmt::format("write the command first: k8sgpu {} …", late));
    }
    if (version_command != nullptr && version_command->parsed())
        return Command{Command::Kind::ShowText, {}, "k8sgpu " + version + "\n", "", {}};

    Command command;
    command.kind = spoken.kind;
    Options& options = command.options;
    std::map<std::string, std::string> from_environment;
    std::set<std::string> overridden;
    for (const OptionRow& row : option_table()) {
        if (given.contains(row.name)) overridden.insert(row.name);
        const std::string value = (row.commands & kRun) != 0 ? environment(environment_name(row.name)) : "";
        if (value.empty()) continue;
        from_environment[row.name] = value;
        overridden.insert(row.name);
    }
    if (config_file.empty()) config_file = environment("K8SGPU_CONFIG");
    if (!config_file.empty()) {
        if (auto done = apply_config_file(command, config_file, overridden); !done) return fail(done.error());
    }
    for (const OptionRow& row : option_table()) {
        if (const auto flag = given.find(row.name); flag != given.end()) {
            if (auto done = apply(row, options, flag->second, std::string("--") + row.name); !done)
                return fail(done.error());
            command.values[row.name] = flag->second;
        } else if (const auto variable = from_environment.find(row.name);
                   variable != from_environment.end()) {
            if (auto done = apply(row, options, variable->second, environment_name(row.name)); !done) {
                return fail(done.error());
            }
            command.values[row.name] = variable->second;
        }
    }
    command.config_file = config_file;
    if (options.node_ip.empty() && !environment("POD_IP").empty()) {
        if (auto done = set_ip(options.node_ip, environment("POD_IP")); !done)
            return fail(done.error().with_context("POD_IP"));
    }
    if (!environment("POD_NAMESPACE").empty()) options.pod_namespace = environment("POD_NAMESPACE");
    if (command.kind != Command::Kind::Run) return command;
    if (auto done = check_together(options); !done) return fail(done.error());
    return command;
}

std::vector<std::string> needing_restart(const Command& before, const Command& after) {
    std::vector<std::string> names;
    for (const OptionRow& row : option_table()) {
        const auto was = before.values.find(row.name), is = after.values.find(row.name);
        const std::string old_text = was == before.values.end() ? row.fallback : was->second;
        const std::string new_text = is == after.values.end() ? row.fallback : is->second;
        if (old_text != new_text && row.change == Change::AtStart) names.emplace_back(row.name);
    }
    return names;
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
    for (const OptionRow& row : option_table()) {
        if ((row.commands & kRun) == 0) continue;
        if (group != row.group) {
            group = row.group;
            page += fmt::format(
                "\n## {}\n\n| flag | environment | default | meaning |\n| --- | --- | --- | --- |\n", group);
        }
        const std::string value = escaped(row.value);
        page += fmt::format(
            "| `--{}{}` | `{}` | {} | {} |\n", row.name, value.empty() ? "" : "=" + value,
            environment_name(row.name), *row.fallback == '\0' ? "" : fmt::format("`{}`", row.fallback),
            escaped(row.help) +
                (row.change == Change::WhileRunning ? " (may change while k8sgpu runs)" : ""));
    }
    page +=
        "\n## `k8sgpu drain`, `k8sgpu uninstall`\n\n"
        "Flags only; besides these, `--kubeconfig` and `--node-name`, and for `uninstall` "
        "`--remote-kubeconfig` and "
        "`--k8sgpu-namespace-name` as above.\n\n| flag | default | meaning |\n| --- | --- | --- |\n";
    for (const OptionRow& row : option_table()) {
        if ((row.commands & kRun) != 0) continue;
        const std::string value = escaped(row.value);
        page += fmt::format("| `--{}{}` | `{}` | {} |\n", row.name, value.empty() ? "" : "=" + value,
                            row.fallback, escaped(row.help));
    }
    return page;
}

}  // namespace k8sgpu::vnode
