// What every easy handle of ours needs (address, TLS, proxy, credentials, socket options), and what libcurl's
// errors mean to our callers. Pure but for the handle given; any thread.
#pragma once

#include <curl/curl.h>

#include <array>
#include <memory>
#include <string>

#include "kube/credentials.h"
#include "kube/curl_transport.h"

namespace k8sgpu::kube {

// One API server and who we are there; replaced as a whole when the configuration changes.
struct Endpoint {
    ClientConfig config;
    ServerAddress address;
    Credentials credentials;

    Endpoint(ClientConfig c, ServerAddress a, Clock& clock)
        : config(std::move(c)), address(std::move(a)), credentials(config, clock) {}
};

struct EasyDeleter {
    void operator()(CURL* easy) const { curl_easy_cleanup(easy); }
};
using Easy = std::unique_ptr<CURL, EasyDeleter>;
struct SlistDeleter {
    void operator()(curl_slist* list) const { curl_slist_free_all(list); }
};
using Slist = std::unique_ptr<curl_slist, SlistDeleter>;
using ErrorBuffer = std::array<char, CURL_ERROR_SIZE>;

// libcurl's process-wide set-up, once; also makes a write to a closed connection an error instead of SIGPIPE.
void ensure_curl();

// Header lines that go with every request: ours, then the request's. Invalid when a name or value could break
// out of its line.
Result<Headers> request_headers(const Request& request, const Endpoint& endpoint,
                                const Credential& credential, const CurlTransportOptions& options);

// An easy handle that is ready to connect, with `lists` and `buffer` kept by the caller as long as the
// handle. Errors of the CA file.
Result<Easy> make_easy(const std::string& path, Endpoint& endpoint, const Credential& credential,
                       const CurlTransportOptions& options, ErrorBuffer& buffer, Slist& connect_to);

// `detail` is the handle's error buffer. Messages name host and port and, for TLS, the way out.
Error error_from_curl(CURLcode code, CURL* easy, const char* detail, const Endpoint& endpoint);

}  // namespace k8sgpu::kube
