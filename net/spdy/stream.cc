#include "net/spdy/stream.h"

#include <spdlog/fmt/fmt.h>

#include "net/spdy/frame.h"

namespace k8sgpu::net::spdy {

namespace {

constexpr std::size_t kChunk = 32U << 10U;

Error error(ErrorKind kind, std::string message) {
    return Error{kind, std::move(message), {}, {}};
}

}  // namespace

SpdyStream::SpdyStream(std::uint32_t id, StreamHeaders headers, std::size_t buffer,
                       std::shared_ptr<SpdyShared> shared)
    : id_(id),
      headers_(std::move(headers)),
      shared_(std::move(shared)),
      lane_(std::make_shared<internal::Outbox::Lane>()),
      inbound_(buffer, shared_->spare) {}

Result<std::size_t> SpdyStream::read(std::span<char> buffer, const CallContext& ctx) {
    return inbound_.read(buffer, ctx);
}

Result<void> SpdyStream::write(std::string_view bytes, const CallContext& ctx) {
    if (write_ended()) return fail(ErrorKind::Invalid, "write after the end of the stream");
    while (!bytes.empty()) {
        const auto chunk = bytes.substr(0, kChunk);
        if (auto ok = shared_->outbox.push_data(lane_, encode_data(id_, chunk, false), ctx); !ok) return ok;
        bytes.remove_prefix(chunk.size());
    }
    return {};
}

Result<std::optional<std::size_t>> SpdyStream::try_read(std::span<char> buffer) {
    return inbound_.try_read(buffer);
}

Result<std::size_t> SpdyStream::try_write(std::string_view bytes) {
    if (write_ended()) return fail(ErrorKind::Invalid, "write after the end of the stream");
    std::size_t written = 0;
    while (!bytes.empty()) {
        const auto room = shared_->outbox.has_room(lane_);
        if (!room) return fail(room.error());
        if (!*room) break;
        const auto chunk = bytes.substr(0, kChunk);
        if (auto ok = shared_->outbox.push_ready(lane_, encode_data(id_, chunk, false)); !ok)
            return fail(ok.error());
        bytes.remove_prefix(chunk.size());
        written += chunk.size();
    }
    return written;
}

void SpdyStream::watch_readable(Wake wake) {
    inbound_.watch_readable(std::move(wake));
}

void SpdyStream::watch_writable(Wake wake) {
    shared_->outbox.watch_room(lane_, std::move(wake));
}

Result<void> SpdyStream::shut_write() {
    bool both = false;
    {
        auto state = state_.lock();
        if (state->write_ended || state->reset) return {};
        state->write_ended = true;
        both = state->read_ended;
    }
    auto pushed = shared_->outbox.push(encode_data(id_, {}, true));
    if (both) shared_->forget(id_);
    return pushed;
}

void SpdyStream::cancel() {
    const auto why = error(ErrorKind::Cancelled, "stream cancelled");
    shared_->outbox.close_lane(lane_, why);  // what was written already still goes out
    inbound_.cancel_reader();
    inbound_.discard();
}

void SpdyStream::reset() {
    reset_with(kRstCancel);
}

void SpdyStream::reset_with(std::uint32_t status) {
    if (!mark_reset(error(ErrorKind::Cancelled, "stream reset"))) return;
    inbound_.cancel_reader();
    inbound_.discard();
    // Fails only when the session has ended, and the stream with it.
    static_cast<void>(shared_->outbox.push(encode_rst_stream(id_, status)));
    shared_->forget(id_);
}

bool SpdyStream::mark_reset(const Error& why) {
    {
        auto state = state_.lock();
        if (state->reset || (state->read_ended && state->write_ended)) return false;
        state->reset = true;
        state->failed = why;
    }
    shared_->outbox.drop_lane(lane_, why);
    replied_.notify_all();
    return true;
}

void SpdyStream::peer_replied() {
    state_.lock()->replied = true;
    replied_.notify_all();
}

Result<void> SpdyStream::wait_for_reply(const CallContext& ctx) {
    auto state = state_.lock();
    state.wait_until(ctx.clock(), replied_, ctx.deadline(), ctx.stop(),
                     [&] { return state->replied || state->failed; });
    // A stream that was opened and then reset has been open: what the peer sent before is still to be read.
    if (state->replied) return {};
    if (state->failed) return fail(*state->failed);
    if (ctx.stop().stop_requested()) return fail(ErrorKind::Cancelled, "stopped");
    return fail(ErrorKind::Timeout, "peer did not acknowledge the stream");
}

void SpdyStream::peer_ended() {
    bool both = false;
    {
        auto state = state_.lock();
        state->read_ended = true;
        both = state->write_ended;
    }
    inbound_.end();
    if (both) shared_->forget(id_);
}

void SpdyStream::end_our_side_silently() {
    state_.lock()->write_ended = true;
}

void SpdyStream::peer_reset(std::uint32_t status) {
    const auto why = error(ErrorKind::Unavailable, fmt::format("peer reset the stream (status {})", status));
    if (mark_reset(why)) inbound_.break_with(why);
    shared_->forget(id_);
}

void SpdyStream::session_ended(const Error& why) {
    {
        auto state = state_.lock();
        if (!state->failed) state->failed = why;
    }
    replied_.notify_all();
    inbound_.break_with(why);
    if (why.kind == ErrorKind::Cancelled) inbound_.cancel_reader();
}

}  // namespace k8sgpu::net::spdy
