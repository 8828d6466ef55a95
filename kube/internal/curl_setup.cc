#include "kube/internal/curl_setup.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <mutex>

#include "common/file.h"

namespace k8sgpu::kube {
namespace {

// Below the 90 s after which the API server closes idle connections, so that we rarely meet a closing one.
constexpr long kIdleSeconds = 80;

bool is_clean(const std::string& text) {
    return std::none_of(text.begin(), text.end(), [](char c) {
        return (static_cast<unsigned char>(c) < 0x20 && c != '\t') || c == 0x7f;
    });
}

bool is_loopback(const std::string& host) {
    return host == "localhost" || host == "::1" || host.starts_with("127.");
}

// Sockets that no child inherits, and that notice a peer which vanished without a word: keep-alives find it
// on an idle connection, TCP_USER_TIMEOUT on one with unacknowledged bytes.
curl_socket_t open_socket(void* options_pointer, curlsocktype /*purpose*/, curl_sockaddr* address) {
    const auto& options = *static_cast<const CurlTransportOptions*>(options_pointer);
    const int fd = ::socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
    if (fd < 0) return CURL_SOCKET_BAD;
    const auto set = [fd](int level, int name, int value) {
        ::setsockopt(fd, level, name, &value, sizeof value);
    };
    const int timeout = static_cast<int>(options.dead_peer_timeout.count());
    const int third = std::max(1, timeout / 3000);
    set(SOL_SOCKET, SO_KEEPALIVE, 1);
    set(IPPROTO_TCP, TCP_KEEPIDLE, third);
    set(IPPROTO_TCP, TCP_KEEPINTVL, third);
    set(IPPROTO_TCP, TCP_KEEPCNT, 2);
    set(IPPROTO_TCP, TCP_USER_TIMEOUT, timeout);
    return fd;
}

curl_blob blob_of(const std::string& text) {
    // libcurl copies it; its interface is not const.
    return {const_cast<char*>(text.data()), text.size(), CURL_BLOB_COPY};
}

// libcurl resolves names for SOCKS itself unless the scheme says otherwise; client-go leaves it to the proxy.
std::string proxy_for_curl(const std::string& url) {
    return url.starts_with("socks5://") ? "socks5h" + url.substr(6) : url;
}

// "host:port" of a proxy's URL, without its user and password.
std::string proxy_name(const std::string& url) {
    std::string rest = url.substr(std::min(url.size(), url.find("://") + 3));
    if (const auto at_sign = rest.rfind('@'); at_sign != std::string::npos) rest.erase(0, at_sign + 1);
    return rest.substr(0, rest.find('/'));
}

bool contains(std::string_view text, std::string_view part) {
    return text.find(part) != std::string_view::npos;
}

Error tls_error(const std::string& detail, const Endpoint& endpoint) {
    const std::string where = "tls with " + endpoint.address.host_port();
    // The peer left in the middle of the handshake: a restart or a load balancer, not a certificate.
    if (contains(detail, "SYSCALL") || contains(detail, "unexpected eof") ||
        contains(detail, "reset by peer"))
        return {ErrorKind::Unavailable, where + ": connection closed during the handshake", {}, {}};
    std::string hint;
    if (contains(detail, "issuer certificate") || contains(detail, "self-signed") ||
        contains(detail, "self signed"))
        hint =
            "; the server's certificate is not from the certificate-authority of " + endpoint.config.origin;
    if (contains(detail, "subject name") || contains(detail, "does not match"))
        hint = "; set tls-server-name to a name that is in the server's certificate";
    if (contains(detail, "wrong version number")) hint = "; the port does not speak TLS, try http://";
    if (contains(detail, "alert"))
        hint = "; the server does not accept our client certificate or TLS version";
    return {ErrorKind::TlsFailure, where + ": " + detail + hint, {}, {}};
}

}  // namespace

void ensure_curl() {
    static std::once_flag once;
    std::call_once(once, [] {
        curl_global_init(CURL_GLOBAL_DEFAULT);
        // OpenSSL writes with write(2); libcurl's own guard against SIGPIPE does not work with threads.
        struct sigaction present {};
        if (::sigaction(SIGPIPE, nullptr, &present) == 0 && present.sa_handler == SIG_DFL)
            ::signal(SIGPIPE, SIG_IGN);
    });
}

Result<Headers> request_headers(const Request& request, const Endpoint& endpoint,
                                const Credential& credential, const CurlTransportOptions& options) {
    Headers headers = request.headers;
    headers.insert(endpoint.config.impersonation.begin(), endpoint.config.impersonation.end());
    headers.erase("host");
    headers.emplace("host", endpoint.address.host_port());
    const auto add_default = [&](const char* name, const std::string& value) {
        if (!headers.contains(name) && !value.empty()) headers.emplace(name, value);
    };
    add_default("user-agent", options.user_agent);
    add_default("authorization", credential.authorization);
    // A kubelet behind the API server answers 406 to an exec that wants JSON back.
    add_default("accept", headers.contains("upgrade") ? "*/*" : "application/json");
    if (!request.body.empty()) add_default("content-type", "application/json");
    for (const auto& [name, value] : headers) {
        if (name.empty() || !is_clean(name) || contains(name, ":") || contains(name, " ") || !is_clean(value))
            return fail(ErrorKind::Invalid,
                        "header " + (is_clean(name) ? name : "name") + " holds control characters");
    }
    if (!request.path.starts_with('/') || !is_clean(request.path) || contains(request.path, " "))
        return fail(ErrorKind::Invalid, "request path must begin with / and be encoded");
    return headers;
}

Result<Easy> make_easy(const std::string& path, Endpoint& endpoint, const Credential& credential,
                       const CurlTransportOptions& options, ErrorBuffer& buffer, Slist& connect_to) {
    ensure_curl();
    auto ca = endpoint.credentials.ca();
    if (!ca) return fail(ca.error());
    Easy owned(curl_easy_init());
    CURL* easy = owned.get();
    if (easy == nullptr) return fail(ErrorKind::Internal, "out of memory");
    const ClientConfig& config = endpoint.config;

    // Name verification and SNI follow the URL, so a tls-server-name becomes the URL's host and the real
    // address is where we connect to.
    ServerAddress named = endpoint.address;
    if (!config.tls_server_name.empty()) named.host = config.tls_server_name;
    const std::string url = (named.tls ? "https://" : "http://") + named.host_port() + named.prefix + path;
    curl_easy_setopt(easy, CURLOPT_URL, url.c_str());
    if (!config.tls_server_name.empty()) {
        connect_to.reset(
            curl_slist_append(nullptr, (named.host_port() + ":" + endpoint.address.host_port()).c_str()));
        curl_easy_setopt(easy, CURLOPT_CONNECT_TO, connect_to.get());
    }
    curl_easy_setopt(easy, CURLOPT_PATH_AS_IS, 1L);
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_NETRC, CURL_NETRC_IGNORED);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, buffer.data());
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, static_cast<long>(options.connect_timeout.count()));
    curl_easy_setopt(easy, CURLOPT_MAXAGE_CONN, kIdleSeconds);
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, &open_socket);
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, &options);

    if (!config.proxy_url.empty()) {
        curl_easy_setopt(easy, CURLOPT_PROXY, proxy_for_curl(config.proxy_url).c_str());
        curl_easy_setopt(easy, CURLOPT_NOPROXY, "");
    } else if (is_loopback(endpoint.address.host)) {
        curl_easy_setopt(easy, CURLOPT_NOPROXY, "*");  // as Go: the environment's proxy never gets loopback
    }
    curl_easy_setopt(easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);

    curl_easy_setopt(easy, CURLOPT_SSLVERSION, CURL_SSLVERSION_TLSv1_2);
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, config.insecure_skip_tls_verify ? 0L : 1L);
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, config.insecure_skip_tls_verify ? 0L : 2L);
    if (!ca->empty()) {
        curl_blob blob = blob_of(*ca);
        curl_easy_setopt(easy, CURLOPT_CAINFO_BLOB, &blob);
        // Debian's default directory would be trusted besides the blob.
        curl_easy_setopt(easy, CURLOPT_CAPATH, nullptr);
    }
    if (!credential.client_cert.empty()) {
        curl_blob cert = blob_of(credential.client_cert);
        curl_blob key = blob_of(credential.client_key);
        curl_easy_setopt(easy, CURLOPT_SSLCERTTYPE, "PEM");
        curl_easy_setopt(easy, CURLOPT_SSLCERT_BLOB, &cert);
        curl_easy_setopt(easy, CURLOPT_SSLKEYTYPE, "PEM");
        curl_easy_setopt(easy, CURLOPT_SSLKEY_BLOB, &key);
    }
    return owned;
}

Error error_from_curl(CURLcode code, CURL* easy, const char* detail, const Endpoint& endpoint) {
    const std::string where = endpoint.address.host_port();
    const std::string text = detail[0] != '\0' ? detail : curl_easy_strerror(code);
    const auto error = [](ErrorKind kind, std::string message) {
        return Error{kind, std::move(message), {}, {}};
    };
    long os_error = 0;
    curl_easy_getinfo(easy, CURLINFO_OS_ERRNO, &os_error);
    const std::string reason =
        os_error == 0 ? text : error_from_errno(static_cast<int>(os_error), "").message.substr(2);
    const std::string& proxy = endpoint.config.proxy_url;
    const std::string via = proxy.empty() ? "" : " by proxy " + proxy_name(proxy);
    switch (code) {
        case CURLE_COULDNT_RESOLVE_HOST:
            return error(ErrorKind::Unavailable, "resolving " + endpoint.address.host + ": no address found");
        case CURLE_COULDNT_RESOLVE_PROXY:
            return error(ErrorKind::Unavailable,
                         "resolving proxy " + proxy_name(proxy) + ": no address found");
        case CURLE_COULDNT_CONNECT:
        case CURLE_PROXY:
            return error(ErrorKind::Unavailable, "connecting to " + where + via + ": " + reason);
        case CURLE_OPERATION_TIMEDOUT:
            return error(ErrorKind::Unavailable, "connecting to " + where + via + ": no answer in time");
        case CURLE_PEER_FAILED_VERIFICATION:
        case CURLE_SSL_CONNECT_ERROR:
        case CURLE_SSL_CERTPROBLEM:
        case CURLE_SSL_CIPHER:
        case CURLE_SSL_CACERT_BADFILE:
        case CURLE_SSL_ISSUER_ERROR:
        case CURLE_SSL_INVALIDCERTSTATUS:
            return tls_error(text, endpoint);
        case CURLE_RECV_ERROR:
        case CURLE_SEND_ERROR:
        case CURLE_GOT_NOTHING:
        case CURLE_PARTIAL_FILE:
            // TLS 1.3 servers refuse a client certificate only after our side of the handshake is done.
            if (contains(text, "alert")) return tls_error(text, endpoint);
            return error(ErrorKind::Unavailable, "connection to " + where + via + " broke: " + text);
        case CURLE_OUT_OF_MEMORY:
        case CURLE_FAILED_INIT:
            return error(ErrorKind::Internal, text);
        default:
            return error(ErrorKind::Protocol, "talking to " + where + via + ": " + text);
    }
}

}  // namespace k8sgpu::kube
