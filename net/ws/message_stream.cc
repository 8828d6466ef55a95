#include "net/ws/message_stream.h"

#include <spdlog/fmt/fmt.h>

#include <array>
#include <cstring>
#include <mutex>
#include <optional>

#include "common/guarded.h"
#include "net/ws/frame.h"

namespace k8sgpu::net::ws {

namespace {

constexpr std::size_t kChunk = 32U << 10U;

}  // namespace

class MessageStream::Impl {
  public:
    Impl(std::unique_ptr<ByteStream> connection, const std::string& early, MuxRole role)
        : connection_(std::move(connection)), role_(role), decoder_(role) {
        decoder_.feed(early);
    }

    Result<std::size_t> read(std::span<char> buffer, const CallContext& ctx);
    Result<void> write(std::string_view bytes, const CallContext& ctx);
    Result<void> shut_write(const CallContext& ctx);
    ByteStream& connection() { return *connection_; }

  private:
    Result<std::size_t> on_close(const CloseFrame& close, const CallContext& ctx);
    // Writes whole frames; `writing_` is held.
    Result<void> send(const std::string& frames, const CallContext& ctx);
    void answer(std::string frame, const CallContext& ctx);
    void flush_answers(const CallContext& ctx);

    const std::unique_ptr<ByteStream> connection_;
    const MuxRole role_;

    // Reader only.
    FrameDecoder decoder_;
    std::string_view piece_;  // of the decoder's buffer, not handed out yet
    bool ended_ = false;

    // Serialises frames on the wire and is therefore held while writing; a reader only ever tries it.
    std::mutex writing_;
    bool write_shut_ = false;       // under writing_
    bool broken_ = false;           // under writing_: half a frame went out
    Guarded<std::string> answers_;  // one pong or close that waits for whoever writes next
};

Result<std::size_t> MessageStream::Impl::read(std::span<char> buffer, const CallContext& ctx) {
    std::array<char, 32U << 10U> incoming;
    while (true) {
        if (!piece_.empty()) {
            const auto count = std::min(buffer.size(), piece_.size());
            std::memcpy(buffer.data(), piece_.data(), count);
            piece_.remove_prefix(count);
            return count;
        }
        if (ended_) return std::size_t{0};
        auto event = decoder_.next();
        if (!event) return fail(event.error());
        if (!event->has_value()) {
            const auto got = connection_->read(incoming, ctx);
            if (!got) return fail(got.error());
            if (*got == 0)
                return fail(ErrorKind::Unavailable,
                            "peer closed the connection without ending the websocket");
            decoder_.feed({incoming.data(), *got});
            continue;
        }
        if (const auto* piece = std::get_if<Piece>(&**event)) {
            if (piece->kind == Opcode::Text)
                return fail(ErrorKind::Protocol, "text message in a binary tunnel");
            piece_ = piece->bytes;
        } else if (auto* ping = std::get_if<PingFrame>(&**event)) {
            answer(encode_frame(Opcode::Pong, ping->payload, role_), ctx);
        } else if (const auto* close = std::get_if<CloseFrame>(&**event)) {
            return on_close(*close, ctx);
        }
    }
}

Result<std::size_t> MessageStream::Impl::on_close(const CloseFrame& close, const CallContext& ctx) {
    answer(encode_close(close.code, {}, role_), ctx);
    if (!close.is_orderly()) {
        return fail(ErrorKind::Unavailable,
                    fmt::format("peer closed the websocket with code {} {}", close.code, close.reason));
    }
    ended_ = true;
    return std::size_t{0};
}

void MessageStream::Impl::answer(std::string frame, const CallContext& ctx) {
    // Only the latest counts: a pong may answer the most recent ping alone (RFC 6455 §5.5.3).
    *answers_.lock() = std::move(frame);
    flush_answers(ctx);
}

void MessageStream::Impl::flush_answers(const CallContext& ctx) {
    // Whoever leaves `writing_` looks again, so an answer put down while a writer was busy is not left lying.
    while (!answers_.lock()->empty()) {
        const std::unique_lock writing(writing_, std::try_to_lock);
        if (!writing) return;
        auto frame = std::exchange(*answers_.lock(), std::string());
        if (!frame.empty() && !write_shut_ && !broken_) static_cast<void>(send(frame, ctx));
    }
}

Result<void> MessageStream::Impl::send(const std::string& frames, const CallContext& ctx) {
    auto ok = connection_->write(frames, ctx);
    if (!ok) broken_ = true;
    return ok;
}

Result<void> MessageStream::Impl::write(std::string_view bytes, const CallContext& ctx) {
    while (!bytes.empty()) {
        const auto chunk = bytes.substr(0, kChunk);
        {
            const std::lock_guard writing(writing_);
            if (write_shut_) return fail(ErrorKind::Invalid, "write after the end of the stream");
            if (broken_) return fail(ErrorKind::Unavailable, "an earlier write was cut short");
            if (auto ok = send(encode_frame(Opcode::Binary, chunk, role_), ctx); !ok) return ok;
        }
        bytes.remove_prefix(chunk.size());
        flush_answers(ctx);
    }
    return {};
}

Result<void> MessageStream::Impl::shut_write(const CallContext& ctx) {
    const std::lock_guard writing(writing_);
    if (write_shut_ || broken_) return {};
    auto ok = send(encode_close(kCloseNormal, {}, role_), ctx);
    write_shut_ = true;
    return ok;
}

MessageStream::MessageStream(std::unique_ptr<ByteStream> connection, std::string early, MuxRole role)
    : impl_(std::make_unique<Impl>(std::move(connection), early, role)) {}

MessageStream::~MessageStream() = default;

Result<std::size_t> MessageStream::read(std::span<char> buffer, const CallContext& ctx) {
    return impl_->read(buffer, ctx);
}

Result<void> MessageStream::write(std::string_view bytes, const CallContext& ctx) {
    return impl_->write(bytes, ctx);
}

Result<void> MessageStream::shut_write() {
    SystemClock clock;
    return impl_->shut_write(CallContext::with_timeout(clock, std::chrono::seconds(1), {}));
}

void MessageStream::cancel() {
    impl_->connection().cancel();
}

bool MessageStream::peer_hung_up() const {
    return impl_->connection().peer_hung_up();
}

}  // namespace k8sgpu::net::ws
