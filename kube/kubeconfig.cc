#include "kube/kubeconfig.h"

#include <unistd.h>

#include <filesystem>
#include <map>

#include "common/encoding.h"
#include "common/file.h"
#include "kube/internal/pem.h"
#include "kube/internal/yaml.h"

namespace k8sgpu::kube {
namespace {

constexpr std::size_t kMaxFile = 4U << 20U;
constexpr std::size_t kMaxFiles = 32;
constexpr std::string_view kExecGroup = "client.authentication.k8s.io";

struct Entry {
    Json body = Json::object();
    std::string file;
};
using Entries = std::map<std::string, Entry>;

struct Merged {
    Entries clusters, users, contexts;
    std::string current_context;
    std::string paths;
};

// Reads the fields of one entry and remembers the first fault, so that callers check once.
class Fields {
  public:
    Fields(const Entry& entry, std::string where)
        : body_(entry.body), file_(entry.file), where_(std::move(where)) {}

    std::string text(const char* field) {
        const Json& value = at(body_, {field});
        if (value.is_null()) return "";
        if (value.is_string()) return value.get<std::string>();
        refuse(field, "must be text; put it in quotes");
        return "";
    }
    bool flag(const char* field) {
        const Json& value = at(body_, {field});
        if (value.is_null()) return false;
        if (value.is_boolean()) return value.get<bool>();
        refuse(field, "must be true or false");
        return false;
    }
    std::string decoded(const char* field) {
        auto bytes = base64_decode(without_spaces(text(field)));
        if (bytes) return *bytes;
        refuse(field, "must be base64");
        return "";
    }
    // Relative paths are relative to the file that they stand in.
    std::string path(const char* field) {
        const std::string value = text(field);
        return value.empty() ? value : resolve(value);
    }
    std::string resolve(const std::string& path) const {
        return (std::filesystem::absolute(file_).parent_path() / path).lexically_normal().string();
    }
    PemSource pem(const char* field, const char* data_field) { return {decoded(data_field), path(field)}; }
    const Json& raw(const char* field) const { return at(body_, {field}); }

    void refuse(const std::string& field, const std::string& why) {
        if (!error_)
            error_ = Error{ErrorKind::Invalid, file_ + ": " + where_ + ": " + field + ": " + why, {}, {}};
    }
    const std::optional<Error>& error() const { return error_; }

  private:
    static std::string without_spaces(std::string text) {
        std::erase_if(text, [](char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; });
        return text;
    }
    const Json& body_;
    const std::string& file_;
    std::string where_;
    std::optional<Error> error_;
};

Result<void> merge_entries(const Json& document, const char* list, const char* item, const std::string& file,
                           Entries& into) {
    const Json& entries = at(document, {list});
    if (entries.is_null()) return {};
    if (!entries.is_array())
        return fail(ErrorKind::Invalid, file + ": " + list + ": must be a list of entries with a name");
    Entries own;
    for (const Json& entry : entries) {
        const std::string name = string_at(entry, {"name"});
        const Json& body = at(entry, {item});
        if (name.empty())
            return fail(ErrorKind::Invalid, file + ": " + list + ": an entry has no name (text)");
        if (!body.is_object() && !body.is_null())
            return fail(ErrorKind::Invalid, file + ": " + item + " \"" + name + "\": must be a mapping");
        if (own.contains(name))
            return fail(ErrorKind::Invalid, file + ": " + item + " \"" + name + "\": stands twice");
        own[name] = Entry{body.is_null() ? Json::object() : body, file};
    }
    into.merge(own);  // keeps what an earlier file said
    return {};
}

Result<void> merge_file(const std::string& file, const std::string& text, Merged& merged) {
    auto document = parse_yaml(text);
    if (!document) return fail(document.error().with_context(file));
    if (document->is_null()) return {};
    const std::string kind = string_at(*document, {"kind"}, "Config");
    if (!document->is_object() || kind != "Config")
        return fail(ErrorKind::Invalid, file + ": not a kubeconfig (expected kind: Config)");
    for (const auto& [list, item, into] :
         {std::tuple{"clusters", "cluster", &merged.clusters}, std::tuple{"users", "user", &merged.users},
          std::tuple{"contexts", "context", &merged.contexts}}) {
        if (auto done = merge_entries(*document, list, item, file, *into); !done) return done;
    }
    if (merged.current_context.empty()) merged.current_context = string_at(*document, {"current-context"});
    return {};
}

std::vector<std::string> split_paths(const std::string& paths) {
    // kubectl's --kubeconfig is one path, and user names such as system:node:x end up in file names.
    if (::access(paths.c_str(), F_OK) == 0) return {paths};
    std::vector<std::string> files;
    for (std::size_t from = 0; from <= paths.size();) {
        const std::size_t to = std::min(paths.find(':', from), paths.size());
        if (to > from) files.push_back(paths.substr(from, to - from));
        from = to + 1;
    }
    return files;
}

Result<Merged> read_all(const std::string& paths, bool trusted_only) {
    const auto files = split_paths(paths);
    if (files.empty()) return fail(ErrorKind::Invalid, "the path of the kubeconfig is empty");
    if (files.size() > kMaxFiles)
        return fail(ErrorKind::Invalid, "more than " + std::to_string(kMaxFiles) + " kubeconfig files");
    Merged merged;
    merged.paths = paths;
    std::size_t found = 0;
    for (const std::string& file : files) {
        auto text = trusted_only ? read_trusted_file(file, kMaxFile) : read_file(file, kMaxFile);
        if (!text && text.error().kind == ErrorKind::NotFound && (files.size() > 1)) continue;
        if (!text) return fail(text.error().with_context("reading kubeconfig"));
        ++found;
        if (auto done = merge_file(file, *text, merged); !done)
            return fail(done.error().with_context("kubeconfig"));
    }
    if (found == 0) return fail(ErrorKind::NotFound, "kubeconfig: none of the files exists: " + paths);
    return merged;
}

std::string names_of(const Entries& entries) {
    std::string names;
    for (const auto& [name, entry] : entries) names += (names.empty() ? "" : ", ") + name;
    return names.empty() ? "there is none" : "there is: " + names;
}

void check_inline_pem(Fields& fields, const char* field, const PemSource& source) {
    if (source.pem.empty()) return;
    if (auto fine = check_certificates(source.pem); !fine) fields.refuse(field, fine.error().message);
}

void read_cluster(Fields& fields, ClientConfig& config) {
    config.server = fields.text("server");
    if (config.server.empty()) {
        fields.refuse("server", "is missing; write https://HOST:PORT");
    } else if (auto address = parse_server_url(config.server); !address) {
        fields.refuse("server", address.error().message);
    }
    config.ca = fields.pem("certificate-authority", "certificate-authority-data");
    check_inline_pem(fields, "certificate-authority-data", config.ca);
    config.tls_server_name = fields.text("tls-server-name");
    config.insecure_skip_tls_verify = fields.flag("insecure-skip-tls-verify");
    if (config.insecure_skip_tls_verify && !config.ca.empty()) {
        fields.refuse("insecure-skip-tls-verify",
                      "contradicts certificate-authority; take one of the two away");
    }
    config.proxy_url = fields.text("proxy-url");
    const std::string scheme = config.proxy_url.substr(0, config.proxy_url.find("://"));
    if (!config.proxy_url.empty() && scheme != "http" && scheme != "https" && scheme != "socks5") {
        fields.refuse("proxy-url", "must begin with http://, https:// or socks5://");
    }
}

void read_exec(Fields& fields, const Json& cluster, const std::string& file, ClientConfig& config) {
    const Json& body = fields.raw("exec");
    if (body.is_null()) return;
    if (!body.is_object()) return fields.refuse("exec", "must be a mapping");
    const Entry entry{body, file};
    Fields exec(entry, "exec");
    ExecPlugin plugin;
    plugin.api_version = exec.text("apiVersion");
    plugin.command = exec.text("command");
    plugin.install_hint = exec.text("installHint");
    plugin.provide_cluster_info = exec.flag("provideClusterInfo");
    const std::string mode = exec.text("interactiveMode");
    if (exec.error())
        return fields.refuse("exec", "command, apiVersion and the like must be text, flags true or false");

    const bool v1 = plugin.api_version == std::string(kExecGroup) + "/v1";
    if (!v1 && plugin.api_version != std::string(kExecGroup) + "/v1beta1") {
        fields.refuse("exec.apiVersion", "is \"" + plugin.api_version + "\"; supported are " +
                                             std::string(kExecGroup) +
                                             "/v1 and /v1beta1 (update the tool that wrote this kubeconfig)");
    }
    if (plugin.command.empty()) fields.refuse("exec.command", "is missing");
    if (plugin.command.find('/') != std::string::npos) plugin.command = exec.resolve(plugin.command);
    if (mode == "Always") {
        fields.refuse("exec.interactiveMode", "is Always, but a daemon has no terminal");
    } else if (!mode.empty() && mode != "Never" && mode != "IfAvailable") {
        fields.refuse("exec.interactiveMode", "must be Never or IfAvailable");
    }
    for (const Json& arg : array_at(body, {"args"})) {
        if (!arg.is_string()) return fields.refuse("exec.args", "must be texts; put them in quotes");
        plugin.args.push_back(arg.get<std::string>());
    }
    for (const Json& variable : array_at(body, {"env"})) {
        const std::string name = string_at(variable, {"name"});
        if (name.empty() || name.find('=') != std::string::npos || !at(variable, {"value"}).is_string())
            return fields.refuse("exec.env", "every entry needs name and value as text");
        plugin.env.emplace_back(name, string_at(variable, {"value"}));
    }
    for (const Json& extension : array_at(cluster, {"extensions"})) {
        if (string_at(extension, {"name"}) == std::string(kExecGroup) + "/exec")
            plugin.cluster_config = at(extension, {"extension"});
    }
    config.exec = std::move(plugin);
}

void read_impersonation(Fields& fields, ClientConfig& config) {
    const std::string user = fields.text("as");
    const std::string uid = fields.text("as-uid");
    if (!user.empty()) config.impersonation.emplace("impersonate-user", user);
    if (!uid.empty()) config.impersonation.emplace("impersonate-uid", uid);
    if (fields.raw("as-groups").is_array()) {
        for (const Json& group : fields.raw("as-groups")) {
            if (group.is_string())
                config.impersonation.emplace("impersonate-group", group.get<std::string>());
        }
    }
    for (const auto& [key, values] : object_at(fields.raw("as-user-extra"), {}).items()) {
        for (const Json& value : values) {
            if (value.is_string())
                config.impersonation.emplace("impersonate-extra-" + url_encode(key),
                                             value.get<std::string>());
        }
    }
    if (user.empty() && (!uid.empty() || !fields.raw("as-groups").is_null()))
        fields.refuse("as", "is missing although other fields impersonate");
}

void read_user(Fields& fields, ClientConfig& config) {
    if (!fields.raw("auth-provider").is_null()) {
        fields.refuse("auth-provider",
                      "was removed from Kubernetes in 1.26; use an exec plugin instead "
                      "(gke-gcloud-auth-plugin, kubelogin)");
    }
    config.client_cert = fields.pem("client-certificate", "client-certificate-data");
    config.client_key = fields.pem("client-key", "client-key-data");
    if (config.client_cert.empty() != config.client_key.empty()) {
        fields.refuse(config.client_cert.empty() ? "client-certificate" : "client-key",
                      "is missing; certificate and key come together");
    }
    if (!config.client_cert.pem.empty() && !config.client_key.pem.empty()) {
        if (auto fine = check_key_pair(config.client_cert.pem, config.client_key.pem); !fine)
            fields.refuse("client-certificate-data", fine.error().message);
    }
    config.token = fields.text("token");
    config.token_file = fields.path("tokenFile");
    config.username = fields.text("username");
    config.password = fields.text("password");
    const bool has_token = !config.token.empty() || !config.token_file.empty();
    if (has_token && !config.username.empty())
        fields.refuse("username", "contradicts token; take one of the two away");
    read_impersonation(fields, config);
}

const Entry* find(const Entries& entries, const std::string& name) {
    const auto found = entries.find(name);
    return found == entries.end() ? nullptr : &found->second;
}

}  // namespace

Result<ClientConfig> load_kubeconfig(const std::string& paths, const KubeconfigOptions& options) {
    const auto merged = read_all(paths, options.trusted_only);
    if (!merged) return fail(merged.error());
    const auto refuse = [](const std::string& message) {
        return fail(ErrorKind::Invalid, "kubeconfig " + message);
    };
    const std::string name = options.context.empty() ? merged->current_context : options.context;
    if (name.empty())
        return refuse(paths + ": no current-context; choose one with: kubectl config use-context NAME");
    const Entry* context = find(merged->contexts, name);
    if (context == nullptr)
        return refuse(paths + ": context \"" + name + "\" does not exist; " + names_of(merged->contexts));

    ClientConfig config;
    config.origin = "context \"" + name + "\" of " + context->file;
    config.trusted_files_only = options.trusted_only;
    Fields fields(*context, "context \"" + name + "\"");
    config.ns = fields.text("namespace");
    const std::string cluster_name = fields.text("cluster");
    const std::string user_name = fields.text("user");
    const Entry* cluster = find(merged->clusters, cluster_name);
    if (cluster == nullptr)
        fields.refuse("cluster", "\"" + cluster_name + "\" does not exist; " + names_of(merged->clusters));
    const Entry* user = find(merged->users, user_name);
    if (user == nullptr && !user_name.empty())
        fields.refuse("user", "\"" + user_name + "\" does not exist; " + names_of(merged->users));
    if (fields.error()) return refuse(fields.error()->message);

    Fields cluster_fields(*cluster, "cluster \"" + cluster_name + "\"");
    read_cluster(cluster_fields, config);
    if (cluster_fields.error()) return refuse(cluster_fields.error()->message);
    if (user == nullptr) return config;
    Fields user_fields(*user, "user \"" + user_name + "\"");
    read_user(user_fields, config);
    read_exec(user_fields, cluster->body, user->file, config);
    if (user_fields.error()) return refuse(user_fields.error()->message);
    return config;
}

Result<ClientConfig> find_client_config(const std::string& flag, const KubeconfigOptions& options,
                                        const Environment& environment) {
    if (!flag.empty()) return load_kubeconfig(flag, options);
    const std::string listed = environment("KUBECONFIG").value_or("");
    if (!listed.empty()) return load_kubeconfig(listed, options);
    if (environment("KUBERNETES_SERVICE_HOST")) return in_cluster_config(environment);
    const std::string home = environment("HOME").value_or("");
    auto config = load_kubeconfig(home + "/.kube/config", options);
    if (!config && config.error().kind == ErrorKind::NotFound) {
        return fail(ErrorKind::NotFound,
                    "no kubeconfig found; name one by flag or KUBECONFIG, or run in a pod (looked at " +
                        home + "/.kube/config too)");
    }
    return config;
}

}  // namespace k8sgpu::kube
