// The port to one API server: requests, streamed responses and upgraded connections, with credentials and TLS
// already applied. CurlTransport is the real one; FakeTransport (kube/testing) answers from a script.
//
// Any thread, many at once. A Transport outlives the streams that it made.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "common/call_context.h"
#include "common/result.h"
#include "net/byte_stream.h"

namespace k8sgpu::kube {

using Headers = std::multimap<std::string, std::string>;  // names in lower case

struct Request {
    std::string method = "GET";
    std::string path;  // path and query, already encoded: "/api/v1/pods?watch=1"
    Headers headers;   // beyond those of the transport (Authorization, User-Agent, Accept: application/json)
    std::string body;
};

struct Response {
    int status = 0;
    Headers headers;
    std::string body;
};

// The body of a response while it is still arriving. One reading thread; cancel() from any. Destruction ends
// the request.
class ResponseStream {
  public:
    virtual ~ResponseStream() = default;
    virtual int status() const = 0;
    virtual const Headers& headers() const = 0;
    // The next bytes, at least one; an empty string is the orderly end. Waits at most until ctx ends.
    virtual Result<std::string> next(const CallContext& ctx) = 0;
    virtual void cancel() = 0;
};

// An upgraded connection: what the server answered and the raw bytes after the head.
struct Upgraded {
    Headers headers;
    std::unique_ptr<net::ByteStream> stream;
};

class Transport {
  public:
    virtual ~Transport() = default;

    // Any HTTP status is a success here. Bodies beyond 256 MiB are refused (Protocol). Errors: Unavailable
    // (refused, reset, DNS), TlsFailure, Timeout, Cancelled, Unauthorized (a credential plugin failed).
    virtual Result<Response> send(const Request& request, const CallContext& ctx) = 0;

    // Returns once the head of the response is there, whatever its status.
    virtual Result<std::unique_ptr<ResponseStream>> open(const Request& request, const CallContext& ctx) = 0;

    // Sends the request with its Connection/Upgrade headers over a connection of its own (HTTP/1.1). Status
    // 101 gives the stream; any other status is an Error with http_status set and the server's message (a
    // Status object's message where the body is one).
    virtual Result<Upgraded> upgrade(const Request& request, const CallContext& ctx) = 0;
};

// The Error that a Kubernetes response stands for: kind by status and reason, message of the Status object,
// retry_after by header or details. Precondition: status >= 400.
Error error_from_response(int status, const Headers& headers, const std::string& body);

// What a stream says although its status is an error, as far as it is worth reading (64 KiB).
std::string read_error_body(ResponseStream& stream, const CallContext& ctx);

}  // namespace k8sgpu::kube
