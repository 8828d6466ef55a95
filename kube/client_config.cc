#include "kube/client_config.h"

#include <curl/curl.h>

#include <charconv>
#include <cstdlib>
#include <memory>

#include "common/file.h"

namespace k8sgpu::kube {
namespace {

std::string trimmed(std::string text) {
    const auto last = text.find_last_not_of(" \t\r\n");
    text.erase(last == std::string::npos ? 0 : last + 1);
    return text;
}

std::string bracketed(const std::string& host) {
    return host.find(':') == std::string::npos ? host : "[" + host + "]";
}

class Url {
  public:
    explicit Url(const std::string& text) : url_(curl_url(), &curl_url_cleanup) {
        code_ = curl_url_set(url_.get(), CURLUPART_URL, text.c_str(), CURLU_NON_SUPPORT_SCHEME);
    }
    CURLUcode code() const { return code_; }
    std::string part(CURLUPart which, unsigned flags = 0) const {
        char* text = nullptr;
        if (curl_url_get(url_.get(), which, &text, flags) != CURLUE_OK) return "";
        std::string copy(text);
        curl_free(text);
        return copy;
    }

  private:
    std::unique_ptr<CURLU, decltype(&curl_url_cleanup)> url_;
    CURLUcode code_ = CURLUE_OK;
};

}  // namespace

Environment process_environment() {
    return [](const std::string& name) -> std::optional<std::string> {
        const char* value = std::getenv(name.c_str());
        if (value == nullptr) return std::nullopt;
        return std::string(value);
    };
}

std::string ServerAddress::host_port() const {
    return bracketed(host) + ":" + std::to_string(port);
}

Result<ServerAddress> parse_server_url(const std::string& text) {
    const auto refuse = [](const std::string& why) {
        return fail(ErrorKind::Invalid, why + "; write https://HOST:PORT");
    };
    if (text.find("://") == std::string::npos) return refuse("\"" + text + "\" has no scheme");
    const Url url(text);
    if (url.code() != CURLUE_OK)
        return refuse("\"" + text + "\" is not a URL (" + curl_url_strerror(url.code()) + ")");
    const std::string scheme = url.part(CURLUPART_SCHEME);
    if (scheme != "https" && scheme != "http") return refuse("scheme " + scheme + " is not supported");
    if (!url.part(CURLUPART_USER).empty() || !url.part(CURLUPART_PASSWORD).empty())
        return refuse("user and password do not belong into the server's URL");
    if (!url.part(CURLUPART_QUERY).empty() || !url.part(CURLUPART_FRAGMENT).empty())
        return refuse("query and fragment do not belong into the server's URL");

    ServerAddress address;
    address.tls = scheme == "https";
    address.host = url.part(CURLUPART_HOST);
    if (address.host.empty()) return refuse("no host in \"" + text + "\"");
    if (address.host.front() == '[') address.host = address.host.substr(1, address.host.size() - 2);
    const std::string port = url.part(CURLUPART_PORT, CURLU_DEFAULT_PORT);
    std::from_chars(port.data(), port.data() + port.size(), address.port);
    if (address.port == 0) return refuse("port 0 cannot be reached");
    address.prefix = url.part(CURLUPART_PATH);
    while (address.prefix.ends_with('/')) address.prefix.pop_back();
    return address;
}

Result<ClientConfig> in_cluster_config(const Environment& environment, const std::string& mount) {
    const std::string host = environment("KUBERNETES_SERVICE_HOST").value_or("");
    const std::string port = environment("KUBERNETES_SERVICE_PORT").value_or("");
    if (host.empty() || port.empty()) {
        return fail(ErrorKind::Invalid,
                    "not inside a cluster (KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set); "
                    "name a kubeconfig");
    }
    ClientConfig config;
    config.origin = "the pod's service account";
    config.server = "https://" + bracketed(host) + ":" + port;
    if (auto address = parse_server_url(config.server); !address)
        return fail(address.error().with_context("KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT"));

    config.token_file = mount + "/token";
    if (auto token = read_file(config.token_file); !token) {
        return fail(token.error().with_context(
            "reading the service account's token (is automountServiceAccountToken off?)"));
    }
    config.ca.file = mount + "/ca.crt";
    if (auto ca = read_file(config.ca.file); !ca)
        return fail(ca.error().with_context("reading the cluster's certificate authority"));
    if (auto ns = read_file(mount + "/namespace"); ns) config.ns = trimmed(*ns);
    return config;
}

}  // namespace k8sgpu::kube
