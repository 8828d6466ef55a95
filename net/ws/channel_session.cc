#include "net/ws/channel_session.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <array>
#include <map>

#include "common/encoding.h"
#include "net/internal/mux_engine.h"
#include "net/ws/channel_stream.h"
#include "net/ws/frame.h"

namespace k8sgpu::net::ws {

namespace {

constexpr std::uint8_t kCloseChannel = 0xff;
// Legacy base64 messages are joined before decoding; clients send a few kilobytes.
constexpr std::size_t kMaxBase64Message = 4U << 20U;
constexpr std::uint8_t kHighestChannel = 4;
constexpr Duration kCloseAnswerLimit{1'000};

constexpr std::array<std::pair<std::string_view, ChannelProtocol>, 5> kNames = {{
    {"channel.k8s.io", ChannelProtocol::Binary},
    {"v4.channel.k8s.io", ChannelProtocol::BinaryV4},
    {"v5.channel.k8s.io", ChannelProtocol::BinaryV5},
    {"base64.channel.k8s.io", ChannelProtocol::Base64},
    {"v4.base64.channel.k8s.io", ChannelProtocol::Base64V4},
}};

internal::MuxEngineOptions engine_options(const ChannelOptions& options) {
    return {options.name, options.idle_timeout, options.ping_interval, options.silence_limit,
            options.role == MuxRole::Server};
}

}  // namespace

std::optional<ChannelProtocol> channel_protocol(std::string_view name) {
    if (name.empty()) return ChannelProtocol::Binary;
    for (const auto& [known, protocol] : kNames) {
        if (known == name) return protocol;
    }
    return std::nullopt;
}

std::string_view to_string(ChannelProtocol protocol) {
    for (const auto& [name, known] : kNames) {
        if (known == protocol) return name;
    }
    return "unknown";
}

std::vector<Channel> remote_command_channels(MuxRole role, const RemoteCommandStreams& streams) {
    const bool server = role == MuxRole::Server;
    std::vector<Channel> channels;
    const auto add = [&](std::uint8_t number, const char* type, bool to_server) {
        channels.push_back({number, {{"streamtype", type}}, server == to_server, server != to_server});
    };
    if (streams.in) add(0, "stdin", true);
    if (streams.out) add(1, "stdout", false);
    if (streams.err) add(2, "stderr", false);
    add(3, "error", false);
    if (streams.resize) add(4, "resize", true);
    return channels;
}

ChannelOptions client_channel_options(ChannelProtocol protocol) {
    ChannelOptions options;
    options.role = MuxRole::Client;
    options.protocol = protocol;
    options.ping_interval = std::chrono::seconds(5);
    options.silence_limit = std::chrono::seconds(61);
    return options;
}

class ChannelSession::Impl final : public internal::MuxProtocol {
  public:
    Impl(std::unique_ptr<ByteStream> connection, std::string early, Clock& clock,
         std::vector<Channel> channels, const ChannelOptions& options)
        : options_(options),
          format_{options.role, options.protocol},
          outbox_(std::make_shared<internal::Outbox>()),
          streams_(make_streams(std::move(channels))),
          decoder_(options.role),
          greeted_(greet()),
          engine_(std::move(connection), std::move(early), clock, engine_options(options), *this, outbox_) {}

    Result<std::shared_ptr<MuxStream>> accept(const CallContext& ctx);
    Result<std::shared_ptr<MuxStream>> open(const StreamHeaders& headers);
    void stop_reading();
    void say_goodbye();

    Result<void> receive(std::string_view bytes, const CallContext& ctx) override;
    std::string make_ping() override { return encode_frame(Opcode::Ping, {}, options_.role); }
    void session_ended(const Error& why) override;

    internal::MuxEngine& engine() { return engine_; }

  private:
    using Streams = std::map<std::uint8_t, std::shared_ptr<ChannelStream>>;
    struct State {
        std::size_t accepted = 0;
        bool close_sent = false;
        std::optional<Error> ended;
    };

    Streams make_streams(std::vector<Channel> channels) const;
    bool greet();
    Result<void> handle(const Event& event, const CallContext& ctx);
    Result<void> on_binary(const Piece& piece, const CallContext& ctx);
    Result<void> on_base64(const Piece& piece, const CallContext& ctx);
    Result<void> on_channel_closed(std::string_view message);
    Result<void> on_close(const CloseFrame& close, const CallContext& ctx);
    Result<void> deliver(std::uint8_t channel, std::string_view bytes, const CallContext& ctx);

    const ChannelOptions options_;
    const ChannelFormat format_;
    const std::shared_ptr<internal::Outbox> outbox_;
    const Streams streams_;
    Guarded<State> state_;
    std::condition_variable_any changed_;

    // Reader thread only.
    FrameDecoder decoder_;
    std::optional<std::uint8_t> channel_;  // of the message under way
    std::string message_;                  // joined so far: base64, or the octet behind 0xff

    const bool greeted_;
    internal::MuxEngine engine_;
};

ChannelSession::Impl::Streams ChannelSession::Impl::make_streams(std::vector<Channel> channels) const {
    Streams streams;
    for (auto& channel : channels) {
        const auto number = channel.number;
        streams[number] =
            std::make_shared<ChannelStream>(std::move(channel), format_, options_.stream_buffer, outbox_);
    }
    return streams;
}

bool ChannelSession::Impl::greet() {
    if (options_.role != MuxRole::Server || !options_.greet) return false;
    for (const auto& [number, stream] : streams_) {
        if (!stream->is_writable()) continue;
        return outbox_->push(format_.frame(number, {})).has_value();
    }
    return false;
}

Result<std::shared_ptr<MuxStream>> ChannelSession::Impl::accept(const CallContext& ctx) {
    if (options_.role != MuxRole::Server) {
        return fail(ErrorKind::Unsupported, "the server of a channel session opens no streams");
    }
    auto state = state_.lock();
    if (!state->ended && state->accepted < streams_.size()) {
        return std::shared_ptr<MuxStream>(
            std::next(streams_.begin(), static_cast<std::ptrdiff_t>(state->accepted++))->second);
    }
    state.wait_until(ctx.clock(), changed_, ctx.deadline(), ctx.stop(),
                     [&] { return state->ended.has_value(); });
    if (state->ended) return fail(*state->ended);
    return ctx.stop().stop_requested() ? fail(ErrorKind::Cancelled, "stopped")
                                       : fail(ErrorKind::Timeout, "all channels were accepted before");
}

Result<std::shared_ptr<MuxStream>> ChannelSession::Impl::open(const StreamHeaders& headers) {
    // Even when the session has ended: a short command may have said everything before the caller asked.
    for (const auto& [number, stream] : streams_) {
        const auto& own = stream->headers();
        if (std::includes(own.begin(), own.end(), headers.begin(), headers.end())) {
            return std::shared_ptr<MuxStream>(stream);
        }
    }
    const auto type = headers.find("streamtype");
    return fail(ErrorKind::Unsupported, fmt::format("the session has no channel for '{}'",
                                                    type == headers.end() ? "" : type->second));
}

Result<void> ChannelSession::Impl::receive(std::string_view bytes, const CallContext& ctx) {
    decoder_.feed(bytes);
    while (true) {
        auto event = decoder_.next();
        Result<void> ok = event ? Result<void>{} : fail(event.error());
        if (ok && !event->has_value()) return {};
        if (ok) ok = handle(**event, ctx);
        if (ok) continue;
        if (ok.error().kind == ErrorKind::Protocol && !std::exchange(state_.lock()->close_sent, true)) {
            // RFC 6455 §7.1.7: tell the peer why, if it still listens.
            static_cast<void>(outbox_->push(encode_close(kCloseProtocolError, {}, options_.role)));
            static_cast<void>(outbox_->wait_drained(ctx.with_timeout(kCloseAnswerLimit)));
        }
        return ok;
    }
}

Result<void> ChannelSession::Impl::handle(const Event& event, const CallContext& ctx) {
    if (const auto* piece = std::get_if<Piece>(&event)) {
        return format_.is_base64() ? on_base64(*piece, ctx) : on_binary(*piece, ctx);
    }
    if (const auto* ping = std::get_if<PingFrame>(&event)) {
        auto pushed = outbox_->push_first(encode_frame(Opcode::Pong, ping->payload, options_.role));
        // A session that is closing answers no more.
        if (!pushed && pushed.error().kind == ErrorKind::Protocol) return pushed;
    }
    if (const auto* close = std::get_if<CloseFrame>(&event)) return on_close(*close, ctx);
    return {};
}

Result<void> ChannelSession::Impl::on_binary(const Piece& piece, const CallContext& ctx) {
    auto bytes = piece.bytes;
    if (piece.first) {
        channel_.reset();
        message_.clear();
    }
    if (!channel_ && !bytes.empty()) {
        channel_ = static_cast<std::uint8_t>(bytes.front());
        bytes.remove_prefix(1);
    }
    if (!channel_) return {};
    if (*channel_ == kCloseChannel && options_.protocol == ChannelProtocol::BinaryV5) {
        message_.append(bytes.substr(0, 2 - message_.size()));  // two are one too many, and enough to tell
        return piece.last ? on_channel_closed(message_) : Result<void>{};
    }
    return deliver(*channel_, bytes, ctx);
}

Result<void> ChannelSession::Impl::on_base64(const Piece& piece, const CallContext& ctx) {
    if (piece.first) message_.clear();
    if (message_.size() + piece.bytes.size() > kMaxBase64Message) {
        return fail(ErrorKind::Protocol,
                    fmt::format("base64 message of more than {} bytes", kMaxBase64Message));
    }
    message_.append(piece.bytes);
    if (!piece.last || message_.empty()) return {};
    const auto bytes = base64_decode(std::string_view(message_).substr(1));
    if (!bytes) return fail(ErrorKind::Protocol, "message is not base64");
    return deliver(static_cast<std::uint8_t>(message_.front() - '0'), *bytes, ctx);
}

Result<void> ChannelSession::Impl::on_channel_closed(std::string_view message) {
    if (message.size() != 1) return fail(ErrorKind::Protocol, "close message is not two octets long");
    const auto number = static_cast<std::uint8_t>(message.front());
    if (const auto found = streams_.find(number); found != streams_.end()) {
        if (found->second->is_readable()) found->second->inbound().end();
        return {};
    }
    const auto highest =
        streams_.empty() ? kHighestChannel : std::max(kHighestChannel, streams_.rbegin()->first);
    if (number <= highest) return {};  // a channel that was not asked for
    return fail(ErrorKind::Protocol, fmt::format("close message for channel {}", number));
}

Result<void> ChannelSession::Impl::deliver(std::uint8_t channel, std::string_view bytes,
                                           const CallContext& ctx) {
    const auto found = streams_.find(channel);
    if (found == streams_.end() || !found->second->is_readable()) return {};
    return engine_.deliver(found->second->inbound(), bytes, ctx);
}

Result<void> ChannelSession::Impl::on_close(const CloseFrame& close, const CallContext& ctx) {
    const bool answered = std::exchange(state_.lock()->close_sent, true);
    if (close.is_orderly()) {
        for (const auto& [number, stream] : streams_) stream->inbound().end();
    }
    if (!answered) {
        static_cast<void>(outbox_->push(encode_close(close.code, {}, options_.role)));
        static_cast<void>(outbox_->wait_drained(ctx.with_timeout(kCloseAnswerLimit)));
    }
    return fail(ErrorKind::Unavailable,
                close.is_orderly()
                    ? std::string("peer closed the session")
                    : fmt::format("peer closed the session with code {} {}", close.code, close.reason));
}

void ChannelSession::Impl::session_ended(const Error& why) {
    state_.lock()->ended = why;
    changed_.notify_all();
    for (const auto& [number, stream] : streams_) stream->session_ended(why);
}

void ChannelSession::Impl::stop_reading() {
    for (const auto& [number, stream] : streams_) stream->inbound().discard();
}

void ChannelSession::Impl::say_goodbye() {
    if (std::exchange(state_.lock()->close_sent, true)) return;
    static_cast<void>(outbox_->push(encode_close(kCloseNormal, {}, options_.role)));
}

ChannelSession::ChannelSession(std::unique_ptr<ByteStream> connection, std::string early, Clock& clock,
                               std::vector<Channel> channels, ChannelOptions options)
    : impl_(std::make_unique<Impl>(std::move(connection), std::move(early), clock, std::move(channels),
                                   options)) {}

ChannelSession::~ChannelSession() = default;

Result<std::shared_ptr<MuxStream>> ChannelSession::accept(const CallContext& ctx) {
    return impl_->accept(ctx);
}

Result<std::shared_ptr<MuxStream>> ChannelSession::open(const StreamHeaders& headers, const CallContext&) {
    return impl_->open(headers);
}

void ChannelSession::close(Duration linger) {
    impl_->stop_reading();
    impl_->engine().close(linger, [this] { impl_->say_goodbye(); });
}

void ChannelSession::cancel() {
    impl_->engine().end({ErrorKind::Cancelled, "session cancelled", {}, {}});
}

std::stop_token ChannelSession::ended() const {
    return impl_->engine().ended();
}

Error ChannelSession::end_reason() const {
    return impl_->engine().end_reason().value_or(
        Error{ErrorKind::Internal, "the session has not ended", {}, {}});
}

}  // namespace k8sgpu::net::ws
