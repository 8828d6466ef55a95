// One channel of a ChannelSession, and how a message of each channel protocol looks. Internal to net/ws/.
#pragma once

#include <memory>

#include "common/guarded.h"
#include "net/byte_pipe.h"
#include "net/internal/outbox.h"
#include "net/ws/channel_session.h"

namespace k8sgpu::net::ws {

// What messages look like in a session; the same for all its channels.
struct ChannelFormat {
    MuxRole role = MuxRole::Server;
    ChannelProtocol protocol = ChannelProtocol::BinaryV4;

    bool is_base64() const {
        return protocol == ChannelProtocol::Base64 || protocol == ChannelProtocol::Base64V4;
    }
    std::string frame(std::uint8_t channel, std::string_view payload) const;
    std::string close_frame(std::uint8_t channel) const;  // v5
};

class ChannelStream final : public MuxStream {
  public:
    ChannelStream(Channel channel, ChannelFormat format, std::size_t buffer,
                  std::shared_ptr<internal::Outbox> outbox);

    std::uint32_t id() const override { return channel_.number; }
    const StreamHeaders& headers() const override { return channel_.headers; }
    Result<std::size_t> read(std::span<char> buffer, const CallContext& ctx) override;
    Result<void> write(std::string_view bytes, const CallContext& ctx) override;
    Result<void> shut_write() override;
    void cancel() override;
    void reset() override;
    Result<std::optional<std::size_t>> try_read(std::span<char> buffer) override;
    Result<std::size_t> try_write(std::string_view bytes) override;
    void watch_readable(Wake wake) override;
    void watch_writable(Wake wake) override;

    // For the session.
    BytePipe& inbound() { return inbound_; }
    bool is_readable() const { return channel_.readable; }
    bool is_writable() const { return channel_.writable; }
    void session_ended(const Error& why);

  private:
    const Channel channel_;
    const ChannelFormat format_;
    const std::shared_ptr<internal::Outbox> outbox_;
    const internal::Outbox::LanePtr lane_;
    BytePipe inbound_;
    Guarded<bool> write_ended_;
};

}  // namespace k8sgpu::net::ws
