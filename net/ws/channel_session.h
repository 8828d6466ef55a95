// The WebSocket channel protocols of Kubernetes (channel.k8s.io, v4, v5 and the base64 forms) as a MuxSession
// for either side. Each message is one channel octet and payload; the set of channels is fixed from the
// start.
//
// The server's accept() yields each configured channel once, in channel order; the client's open() selects
// one by its "streamtype" header, also after the end, because what came before waits there. Reading a channel
// that only the other direction uses gives the end at once, writing it is Invalid. Half-close exists only in
// v5, from client to server: shut_write() of a client stream is Unsupported before v5; of a server stream it
// ends our side without a message. When the peer closes the WebSocket in order (1000, 1001 or no code) every
// inbound channel ends; after any other end reads fail with Unavailable.
//
// Buffers, queue, threads and ending as spdy::SpdySession: a channel that nobody reads stops the session.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "net/mux_session.h"
#include "net/spdy/session.h"

namespace k8sgpu::net::ws {

enum class ChannelProtocol { Binary, BinaryV4, BinaryV5, Base64, Base64V4 };

// From Sec-WebSocket-Protocol; "" (none negotiated) is Binary. Nothing for an unknown name.
std::optional<ChannelProtocol> channel_protocol(std::string_view name);
std::string_view to_string(ChannelProtocol protocol);

struct Channel {
    std::uint8_t number = 0;
    StreamHeaders headers;  // {streamtype: stdin}
    bool readable = true;   // by us
    bool writable = true;
};

struct RemoteCommandStreams {
    bool in = false;
    bool out = false;
    bool err = false;
    bool resize = false;
};
// Channels 0 stdin, 1 stdout, 2 stderr, 3 error (always), 4 resize as exec and attach use them.
std::vector<Channel> remote_command_channels(MuxRole role, const RemoteCommandStreams& streams);

struct ChannelOptions {
    MuxRole role = MuxRole::Server;
    ChannelProtocol protocol = ChannelProtocol::BinaryV4;
    std::string name = "ws";
    Duration idle_timeout = std::chrono::hours(4);  // zero: never
    Duration ping_interval{0};                      // clients of exec use 5 s
    Duration silence_limit{0};                      // clients use 61 s
    std::size_t stream_buffer = 256U << 10U;
    // The server of exec and attach sends one empty message on its lowest writable channel, so that the
    // client sees data flow. Port-forward begins with port numbers instead.
    bool greet = true;
};

// What remote exec clients use: ping 5 s, give up after 61 s of silence.
ChannelOptions client_channel_options(ChannelProtocol protocol);

class ChannelSession final : public MuxSession {
  public:
    ChannelSession(std::unique_ptr<ByteStream> connection, std::string early, Clock& clock,
                   std::vector<Channel> channels, ChannelOptions options);
    ~ChannelSession() override;

    Result<std::shared_ptr<MuxStream>> accept(const CallContext& ctx) override;
    Result<std::shared_ptr<MuxStream>> open(const StreamHeaders& headers, const CallContext& ctx) override;
    Result<std::shared_ptr<MuxStream>> open_at_once(const StreamHeaders& headers,
                                                    const CallContext& ctx) override {
        return open(headers, ctx);
    }
    // Pending writes, then close 1000, then waits for the peer's close; limits as SpdySession::close().
    void close(Duration linger) override;
    void cancel() override;
    std::stop_token ended() const override;
    Error end_reason() const;

  private:
    class Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace k8sgpu::net::ws
