// What it takes to reach one API server: address, trust, identity. Made from a kubeconfig (kube/kubeconfig.h)
// or from the service account of the pod we run in; consumed by CurlTransport.
//
// Plain values; any thread. Holds secrets: never log one.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "common/json.h"
#include "common/result.h"

namespace k8sgpu::kube {

// Reads environment variables; tests pass their own.
using Environment = std::function<std::optional<std::string>(const std::string& name)>;
Environment process_environment();

// PEM text given inline, or a file that is read again while we run. Inline wins, as in a kubeconfig.
struct PemSource {
    std::string pem;
    std::string file;
    bool empty() const { return pem.empty() && file.empty(); }
};

// A credential plugin (KEP-541, client.authentication.k8s.io).
struct ExecPlugin {
    std::string api_version;  // "client.authentication.k8s.io/v1" or ".../v1beta1"
    std::string command;      // absolute where the kubeconfig wrote a path, else looked up in PATH
    std::vector<std::string> args;
    std::vector<std::pair<std::string, std::string>> env;
    std::string install_hint;
    bool provide_cluster_info = false;
    Json cluster_config;  // the cluster's extension of that name, handed on as spec.cluster.config
};

struct ClientConfig {
    std::string origin;  // for messages: `context "prod" of /etc/kubeconfig`
    std::string server;  // "https://host:port/prefix"
    std::string ns;      // the context's or service account's namespace, "" when it names none

    PemSource ca;  // empty: the system's CAs
    std::string tls_server_name;
    bool insecure_skip_tls_verify = false;
    std::string proxy_url;  // http, https, socks5; "" = as HTTPS_PROXY and NO_PROXY say

    PemSource client_cert;
    PemSource client_key;
    std::string token;
    std::string token_file;  // wins over `token` once it could be read
    std::string username;
    std::string password;
    std::optional<ExecPlugin> exec;
    std::multimap<std::string, std::string> impersonation;  // headers, names in lower case

    bool trusted_files_only = false;  // files named above must not be writable by others
};

struct ServerAddress {
    bool tls = true;
    std::string host;  // IPv6 without brackets
    std::uint16_t port = 443;
    std::string prefix;  // path before /api, without a slash at its end

    std::string host_port() const;  // IPv6 in brackets
};
// Invalid with a message that names the fault ("scheme ftp; write https://HOST:PORT").
Result<ServerAddress> parse_server_url(const std::string& url);

// The service account of this pod. Invalid when we are not in a pod; NotFound when the token is not mounted.
Result<ClientConfig> in_cluster_config(
    const Environment& environment,
    const std::string& mount = "/var/run/secrets/kubernetes.io/serviceaccount");

}  // namespace k8sgpu::kube
