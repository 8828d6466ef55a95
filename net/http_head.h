// HTTP/1.1 message heads (RFC 9112): parsing what a peer sent, bounded, and writing our own. Decides in the
// kubelet API whether a request is an upgrade, and makes the client side of exec and port-forward towards
// another apiserver. Bodies are not handled here.
//
// Strict where leniency invites smuggling: CRLF line ends, no folded lines, no blanks around names, no
// control characters. Pure but for read_*_head; any thread.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "net/byte_stream.h"

namespace k8sgpu::net {

struct HeadLimits {
    std::size_t max_bytes = 1U << 20U;  // what Go's server takes; exec command lines live in the target
    std::size_t max_headers = 1000;
};

// Header lines in their order; names in lower case, several lines of one name allowed.
class HttpHeaders {
  public:
    void add(std::string_view name, std::string value);  // lowers the name
    void remove(std::string_view name);

    // `name` in lower case. The first value, or "" when absent.
    std::string_view get(std::string_view name) const;
    bool has(std::string_view name) const;
    std::vector<std::string_view> all(std::string_view name) const;
    // The elements of every line of `name` as one comma-separated list, trimmed, empty ones dropped:
    // X-Stream-Protocol-Version, Sec-WebSocket-Protocol.
    std::vector<std::string> list(std::string_view name) const;
    // Whether list(name) holds `token`, ignoring case: has_token("connection", "upgrade").
    bool has_token(std::string_view name, std::string_view token) const;

    const std::vector<std::pair<std::string, std::string>>& lines() const { return lines_; }

  private:
    std::vector<std::pair<std::string, std::string>> lines_;
};

struct HttpRequestHead {
    std::string method;
    std::string target;  // as sent, undecoded
    int minor_version = 1;
    HttpHeaders headers;

    std::string_view path() const;   // of the target, undecoded, without the query
    std::string_view query() const;  // without '?'; empty when absent
    // `Connection: upgrade` and an `Upgrade` header that lists `protocol` ("websocket", "SPDY/3.1").
    bool is_upgrade_to(std::string_view protocol) const;
};

struct HttpResponseHead {
    int status = 0;
    std::string reason;
    int minor_version = 1;
    HttpHeaders headers;
};

// Where the head in `bytes` ends (index after the empty line), or nothing while it is incomplete. `from` is
// what an earlier call on a shorter text returned in *resume, so that slow peers cost linear time.
std::optional<std::size_t> find_head_end(std::string_view bytes, std::size_t* resume);

// `head` ends with the empty line. Invalid with http_status 400, 431 (too large, too many lines) or 505.
Result<HttpRequestHead> parse_request_head(std::string_view head, const HeadLimits& limits = {});
Result<HttpResponseHead> parse_response_head(std::string_view head, const HeadLimits& limits = {});

template <typename Head>
struct ReadHead {
    Head head;
    std::string raw;    // the head's bytes, for replaying it to another server
    std::string early;  // what had already arrived behind it
};

// Reads up to the end of one head. Besides the parser's errors and the stream's: Unavailable when the peer
// ends inside the head, NotFound when it ends (or leaves) before the first byte, as an idle keep-alive
// connection does. `already` is what an earlier read left over.
Result<ReadHead<HttpRequestHead>> read_request_head(ByteStream& stream, const CallContext& ctx,
                                                    std::string already = {}, const HeadLimits& limits = {});
Result<ReadHead<HttpResponseHead>> read_response_head(ByteStream& stream, const CallContext& ctx,
                                                      std::string already = {},
                                                      const HeadLimits& limits = {});

// Names are written as given in `lines` (so callers choose "Connection"); CR, LF and NUL in values become
// blanks, which keeps a value from another party from becoming a header.
using HeaderLines = std::vector<std::pair<std::string, std::string>>;
std::string write_request_head(std::string_view method, std::string_view target, const HeaderLines& lines);
std::string write_response_head(int status, const HeaderLines& lines);
// Head with Content-Type text/plain (or as given), Content-Length, Connection: close, and the body.
std::string write_simple_response(int status, std::string_view body,
                                  std::string_view content_type = "text/plain; charset=utf-8",
                                  const HeaderLines& more = {});
std::string_view reason_phrase(int status);

}  // namespace k8sgpu::net
