#include "net/ws/channel_stream.h"

#include "common/encoding.h"
#include "net/ws/frame.h"

namespace k8sgpu::net::ws {

namespace {

constexpr std::size_t kChunk = 32U << 10U;
constexpr char kCloseChannel = '\xff';

}  // namespace

std::string ChannelFormat::frame(std::uint8_t channel, std::string_view payload) const {
    if (is_base64()) {
        std::string message(1, static_cast<char>('0' + channel));
        return encode_frame(Opcode::Text, message.append(base64_encode(payload)), role);
    }
    std::string message;
    message.reserve(1 + payload.size());
    message += static_cast<char>(channel);
    return encode_frame(Opcode::Binary, message.append(payload), role);
}

std::string ChannelFormat::close_frame(std::uint8_t channel) const {
    const char message[2] = {kCloseChannel, static_cast<char>(channel)};
    return encode_frame(Opcode::Binary, {message, 2}, role);
}

ChannelStream::ChannelStream(Channel channel, ChannelFormat format, std::size_t buffer,
                             std::shared_ptr<internal::Outbox> outbox)
    : channel_(std::move(channel)),
      format_(format),
      outbox_(std::move(outbox)),
      lane_(std::make_shared<internal::Outbox::Lane>()),
      inbound_(buffer) {
    if (!channel_.readable) inbound_.end();
}

Result<std::size_t> ChannelStream::read(std::span<char> buffer, const CallContext& ctx) {
    return inbound_.read(buffer, ctx);
}

Result<void> ChannelStream::write(std::string_view bytes, const CallContext& ctx) {
    if (!channel_.writable) return fail(ErrorKind::Invalid, "this side does not write this channel");
    if (*write_ended_.lock()) return fail(ErrorKind::Invalid, "write after the end of the stream");
    while (!bytes.empty()) {
        const auto chunk = bytes.substr(0, kChunk);
        if (auto ok = outbox_->push_data(lane_, format_.frame(channel_.number, chunk), ctx); !ok) return ok;
        bytes.remove_prefix(chunk.size());
    }
    return {};
}

Result<std::optional<std::size_t>> ChannelStream::try_read(std::span<char> buffer) {
    return inbound_.try_read(buffer);
}

Result<std::size_t> ChannelStream::try_write(std::string_view bytes) {
    if (!channel_.writable) return fail(ErrorKind::Invalid, "this side does not write this channel");
    if (*write_ended_.lock()) return fail(ErrorKind::Invalid, "write after the end of the stream");
    std::size_t written = 0;
    while (!bytes.empty()) {
        const auto room = outbox_->has_room(lane_);
        if (!room) return fail(room.error());
        if (!*room) break;
        const auto chunk = bytes.substr(0, kChunk);
        if (auto ok = outbox_->push_ready(lane_, format_.frame(channel_.number, chunk)); !ok)
            return fail(ok.error());
        bytes.remove_prefix(chunk.size());
        written += chunk.size();
    }
    return written;
}

void ChannelStream::watch_readable(Wake wake) {
    inbound_.watch_readable(std::move(wake));
}

void ChannelStream::watch_writable(Wake wake) {
    outbox_->watch_room(lane_, std::move(wake));
}

Result<void> ChannelStream::shut_write() {
    if (!channel_.writable) return {};
    const bool sends = format_.role == MuxRole::Client;
    if (sends && format_.protocol != ChannelProtocol::BinaryV5) {
        return fail(ErrorKind::Unsupported, "only v5.channel.k8s.io can end a single channel");
    }
    {
        auto ended = write_ended_.lock();
        if (*ended) return {};
        *ended = true;
    }
    return sends ? outbox_->push(format_.close_frame(channel_.number)) : Result<void>{};
}

void ChannelStream::cancel() {
    // What was written already still goes out.
    outbox_->close_lane(lane_, {ErrorKind::Cancelled, "stream cancelled", {}, {}});
    inbound_.cancel_reader();
    inbound_.discard();
}

void ChannelStream::reset() {
    outbox_->drop_lane(lane_, {ErrorKind::Cancelled, "stream reset", {}, {}});
    inbound_.cancel_reader();
    inbound_.discard();
}

void ChannelStream::session_ended(const Error& why) {
    inbound_.break_with(why);
    if (why.kind == ErrorKind::Cancelled) inbound_.cancel_reader();
}

}  // namespace k8sgpu::net::ws
