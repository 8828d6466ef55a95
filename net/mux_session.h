// The port for several streams over one connection: SPDY/3.1 and the WebSocket channel protocols of
// Kubernetes, as server (towards the kube-apiserver) and as client (towards a remote one).
//
// Streams are told apart by their headers ("streamtype": error, stdin, stdout, stderr, resize, data; "port",
// "requestid"). A WebSocket channel session has a fixed set of streams and presents them in the same manner,
// so that whoever serves exec or port-forward does not see which protocol is below.
//
// A session owns one reader thread. accept() and open() may be called from any thread; streams are shared
// with the session and stay valid (ended) after close(). Inbound bytes wait in a bounded buffer per stream; a
// full buffer stops the reader, so a slow consumer costs bounded memory.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "net/byte_stream.h"
#include "net/pollable.h"

namespace k8sgpu::net {

using StreamHeaders = std::map<std::string, std::string>;  // names in lower case

class MuxStream : public ByteStream, public Pollable {
  public:
    virtual std::uint32_t id() const = 0;
    virtual const StreamHeaders& headers() const = 0;

    // Ends both directions abruptly; the peer sees a reset where the protocol has one.
    virtual void reset() = 0;
};

class MuxSession {
  public:
    virtual ~MuxSession() = default;

    // The next stream that the peer opened (already acknowledged to it). Unavailable once the session has
    // ended.
    virtual Result<std::shared_ptr<MuxStream>> accept(const CallContext& ctx) = 0;

    // Opens a stream towards the peer and waits until it is usable. For channel sessions the headers select
    // the channel; Unsupported when the session has none for them.
    virtual Result<std::shared_ptr<MuxStream>> open(const StreamHeaders& headers, const CallContext& ctx) = 0;

    // As open(), but without waiting for the peer: what is written goes out behind the request, and a
    // refusal shows as an error of the stream.
    virtual Result<std::shared_ptr<MuxStream>> open_at_once(const StreamHeaders& headers,
                                                            const CallContext& ctx) = 0;

    // Says goodbye in the protocol's way after pending writes, waits up to `linger` for the peer to close,
    // then closes the connection and joins the reader. Idempotent.
    virtual void close(Duration linger) = 0;

    // Ends at once; every stream call returns Cancelled. Any thread.
    virtual void cancel() = 0;

    // Stopped when the connection ends for whatever reason: the exec behind it should end too.
    virtual std::stop_token ended() const = 0;
};

}  // namespace k8sgpu::net
