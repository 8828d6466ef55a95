// Writes one HTTP/1.1 response: whole, or as a stream of chunks that are each on the wire before write()
// returns (kubectl logs -f shows nothing that waits in a buffer).
//
// Belongs to the thread of its connection; a handler may hand it to a provider that writes from one other
// thread while the handler waits.
#pragma once

#include <string>
#include <string_view>

#include "common/error.h"
#include "net/byte_stream.h"
#include "net/http_head.h"

namespace k8sgpu::kubelet_api {

class ResponseWriter {
  public:
    // `keep_alive`: what the request allows. `limit`: how long a peer may take to accept a whole response.
    ResponseWriter(net::ByteStream& stream, int minor_version, bool keep_alive, Duration limit)
        : stream_(stream), minor_version_(minor_version), keep_alive_(keep_alive), limit_(limit) {}

    // Handlers' own texts: bare, as the kubelet writes them.
    Result<void> text(int status, std::string_view body, const CallContext& ctx, net::HeaderLines more = {});
    // As Go's http.Error: the text, a newline, nosniff.
    Result<void> plain_error(int status, std::string_view body, const CallContext& ctx);
    Result<void> send(int status, std::string_view content_type, std::string_view body,
                      const CallContext& ctx, net::HeaderLines more = {});

    // A body of unknown length. begin() sends the head at once.
    Result<void> begin(int status, std::string_view content_type, const CallContext& ctx);
    Result<void> write(std::string_view bytes, const CallContext& ctx);
    Result<void> end(const CallContext& ctx);

    // For HEAD: heads say what the body would be, and no body follows.
    void leave_out_body() { with_body_ = false; }

    int status() const { return status_; }  // 0 before anything was sent
    // True when the connection can carry another request: the response is complete and both sides agree.
    bool reusable() const { return complete_ && keep_alive_; }
    void do_not_reuse() { keep_alive_ = false; }
    // The connection was taken over; `status` is what its new owner answered.
    void taken_over(int status) { status_ = status; }

  private:
    Result<void> put(std::string_view bytes, const CallContext& ctx);

    net::ByteStream& stream_;
    int minor_version_;
    bool keep_alive_;
    Duration limit_;
    int status_ = 0;
    bool with_body_ = true;
    bool chunked_ = false;
    bool complete_ = false;
};

// The kubelet's status for an error of a backend: NotFound 404, Throttled 429, Unsupported 501, else 500.
int status_of(const Error& error);

}  // namespace k8sgpu::kubelet_api
