#include "net/spdy/session.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>

#include "net/internal/mux_engine.h"
#include "net/spdy/frame.h"
#include "net/spdy/stream.h"

namespace k8sgpu::net::spdy {

namespace {

StreamHeaders with_lower_names(const StreamHeaders& headers) {
    StreamHeaders lowered;
    for (const auto& [name, value] : headers) {
        std::string key = name;
        std::transform(key.begin(), key.end(), key.begin(),
                       [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
        lowered.emplace(std::move(key), value);
    }
    return lowered;
}

// The outbox belongs to the shared part, whose streams may outlive the session.
std::shared_ptr<internal::Outbox> outbox_of(const std::shared_ptr<SpdyShared>& shared) {
    return {shared, &shared->outbox};
}

std::shared_ptr<SpdyShared> make_shared_part(const SpdyOptions& options) {
    auto shared = std::make_shared<SpdyShared>();
    shared->spare = options.spare;
    return shared;
}

internal::MuxEngineOptions engine_options(const SpdyOptions& options) {
    return {options.name, options.idle_timeout, options.ping_interval, options.silence_limit,
            options.role == MuxRole::Server};
}

}  // namespace

class SpdySession::Impl final : public internal::MuxProtocol {
  public:
    Impl(std::unique_ptr<ByteStream> connection, std::string early, Clock& clock, const SpdyOptions& options)
        : options_(options),
          shared_(make_shared_part(options)),
          next_ping_(options.role == MuxRole::Client ? 1 : 2),
          engine_(std::move(connection), std::move(early), clock, engine_options(options), *this,
                  outbox_of(shared_)) {}

    Result<std::shared_ptr<MuxStream>> accept(const CallContext& ctx);
    Result<std::shared_ptr<SpdyStream>> open_at_once(const StreamHeaders& headers);
    Result<std::shared_ptr<MuxStream>> open(const StreamHeaders& headers, const CallContext& ctx);
    void stop_reading();
    void say_goodbye();

    Result<void> receive(std::string_view bytes, const CallContext& ctx) override;
    std::string make_ping() override;
    void session_ended(const Error& why) override;

    internal::MuxEngine& engine() { return engine_; }

  private:
    Result<void> handle(const Event& event, const CallContext& ctx);
    Result<void> on_data(const DataPiece& piece, const CallContext& ctx);
    Result<void> on_syn_stream(const SynStream& syn);
    Result<void> on_ping(const Ping& ping);
    // RST status with which to refuse the stream, or nothing.
    std::optional<std::uint32_t> admit(const SynStream& syn, const std::shared_ptr<SpdyStream>& stream);
    Result<void> push_with_headers(const StreamHeaders& headers,
                                   const std::function<std::string(std::string_view)>& make_frame);
    std::shared_ptr<SpdyStream> find(std::uint32_t id) const;
    std::map<std::uint32_t, std::shared_ptr<SpdyStream>> start_closing();
    bool is_own_id(std::uint32_t id) const { return (id % 2 == 1) == (options_.role == MuxRole::Client); }

    const SpdyOptions options_;
    const std::shared_ptr<SpdyShared> shared_;
    std::mutex open_mutex_;  // ids must go out in ascending order
    FrameDecoder frames_;    // reader thread only, as is the next
    HeaderDecoder headers_;
    std::uint32_t next_ping_;  // writer thread only
    internal::MuxEngine engine_;
};

Result<std::shared_ptr<MuxStream>> SpdySession::Impl::accept(const CallContext& ctx) {
    auto table = shared_->table.lock();
    table.wait_until(ctx.clock(), shared_->accept_changed, ctx.deadline(), ctx.stop(),
                     [&] { return table->ended || !table->to_accept.empty(); });
    if (table->ended) return fail(*table->ended);
    if (table->to_accept.empty()) {
        return ctx.stop().stop_requested() ? fail(ErrorKind::Cancelled, "stopped")
                                           : fail(ErrorKind::Timeout, "no stream came before the deadline");
    }
    std::shared_ptr<MuxStream> stream = std::move(table->to_accept.front());
    table->to_accept.pop_front();
    return stream;
}

Result<std::shared_ptr<SpdyStream>> SpdySession::Impl::open_at_once(const StreamHeaders& headers) {
    const auto lowered = with_lower_names(headers);
    const std::lock_guard order(open_mutex_);
    std::shared_ptr<SpdyStream> stream;
    {
        auto table = shared_->table.lock();
        if (table->ended) return fail(*table->ended);
        if (table->closing) return fail(ErrorKind::Unavailable, "the session is closing");
        if (table->streams.size() >= options_.max_streams) {
            return fail(ErrorKind::Unavailable,
                        fmt::format("the session has {} streams, which is its limit", options_.max_streams));
        }
        if (options_.role == MuxRole::Server && table->next_own_id == 1) table->next_own_id = 2;
        const auto id = table->next_own_id;
        table->next_own_id += 2;
        stream = std::make_shared<SpdyStream>(id, lowered, options_.stream_buffer, shared_);
        table->streams.emplace(id, stream);
    }
    auto pushed = push_with_headers(
        lowered, [&](std::string_view block) { return encode_syn_stream(stream->id(), block); });
    if (!pushed) {
        shared_->forget(stream->id());
        return fail(pushed.error());
    }
    return stream;
}

Result<std::shared_ptr<MuxStream>> SpdySession::Impl::open(const StreamHeaders& headers,
                                                           const CallContext& ctx) {
    auto stream = open_at_once(headers);
    if (!stream) return fail(stream.error());
    if (auto ok = (*stream)->wait_for_reply(ctx.with_timeout(options_.reply_timeout)); !ok) {
        (*stream)->reset();
        return fail(ok.error().with_context("opening a stream"));
    }
    return std::shared_ptr<MuxStream>(*std::move(stream));
}

Result<void> SpdySession::Impl::push_with_headers(
    const StreamHeaders& headers, const std::function<std::string(std::string_view)>& make_frame) {
    auto encoder = shared_->encoder.lock();
    auto block = encoder->encode(headers);
    if (!block) return fail(block.error());
    return shared_->outbox.push(make_frame(*block));
}

Result<void> SpdySession::Impl::receive(std::string_view bytes, const CallContext& ctx) {
    frames_.feed(bytes);
    while (true) {
        auto event = frames_.next();
        if (!event) return fail(event.error());
        if (!event->has_value()) return {};
        if (auto ok = handle(**event, ctx); !ok) return ok;
    }
}

Result<void> SpdySession::Impl::handle(const Event& event, const CallContext& ctx) {
    if (const auto* data = std::get_if<DataPiece>(&event)) return on_data(*data, ctx);
    if (const auto* syn = std::get_if<SynStream>(&event)) return on_syn_stream(*syn);
    if (const auto* ping = std::get_if<Ping>(&event)) return on_ping(*ping);
    if (const auto* reply = std::get_if<SynReply>(&event)) {
        if (auto headers = headers_.decode(reply->header_block); !headers) return fail(headers.error());
        if (const auto stream = find(reply->stream_id)) {
            stream->peer_replied();
            if (reply->fin) stream->peer_ended();
        }
    } else if (const auto* extra = std::get_if<ExtraHeaders>(&event)) {
        if (auto headers = headers_.decode(extra->header_block); !headers) return fail(headers.error());
        const auto stream = find(extra->stream_id);
        if (stream && extra->fin) stream->peer_ended();
    } else if (const auto* reset = std::get_if<RstStream>(&event)) {
        if (const auto stream = find(reset->stream_id)) stream->peer_reset(reset->status);
    } else if (std::holds_alternative<GoAway>(event)) {
        // The last frame of the reference, which reads nothing more either.
        return fail(ErrorKind::Unavailable, "peer ended the session");
    }
    return {};
}

Result<void> SpdySession::Impl::on_data(const DataPiece& piece, const CallContext& ctx) {
    const auto stream = find(piece.stream_id);
    if (!stream || stream->read_ended()) return {};  // as the reference: dropped without an answer
    if (auto ok = engine_.deliver(stream->inbound(), piece.bytes, ctx); !ok) return ok;
    if (piece.fin) stream->peer_ended();
    return {};
}

Result<void> SpdySession::Impl::on_syn_stream(const SynStream& syn) {
    auto headers = headers_.decode(syn.header_block);
    if (!headers) return fail(headers.error());
    auto stream =
        std::make_shared<SpdyStream>(syn.stream_id, *std::move(headers), options_.stream_buffer, shared_);
    if (syn.unidirectional) stream->end_our_side_silently();
    if (const auto refused = admit(syn, stream)) {
        return shared_->outbox.push(encode_rst_stream(syn.stream_id, *refused));
    }
    // The reply goes first: a client drops data that comes before it.
    auto replied =
        push_with_headers({}, [&](std::string_view block) { return encode_syn_reply(syn.stream_id, block); });
    // A session that is closing takes no frames, and needs no stream.
    if (!replied) return replied.error().kind == ErrorKind::Unavailable ? Result<void>{} : replied;
    if (syn.fin) stream->peer_ended();
    {
        auto table = shared_->table.lock();
        if (!table->ended) table->to_accept.push_back(std::move(stream));
    }
    shared_->accept_changed.notify_all();
    return {};
}

std::optional<std::uint32_t> SpdySession::Impl::admit(const SynStream& syn,
                                                      const std::shared_ptr<SpdyStream>& stream) {
    auto table = shared_->table.lock();
    if (syn.stream_id <= table->last_peer_id || table->streams.count(syn.stream_id) != 0) {
        return kRstProtocolError;
    }
    table->last_peer_id = syn.stream_id;
    // Streams that ended but were never accepted count too, or they could pile up.
    const auto count = std::max(table->streams.size(), table->to_accept.size());
    if (table->ended || table->closing || count >= options_.max_streams) return kRstRefused;
    table->streams.emplace(syn.stream_id, stream);
    return std::nullopt;
}

Result<void> SpdySession::Impl::on_ping(const Ping& ping) {
    if (is_own_id(ping.id)) return {};  // the answer to ours
    auto pushed = shared_->outbox.push_first(encode_ping(ping.id));
    return !pushed && pushed.error().kind == ErrorKind::Unavailable ? Result<void>{} : pushed;
}

std::string SpdySession::Impl::make_ping() {
    const auto id = next_ping_;
    next_ping_ += 2;  // wraps around without changing parity
    return encode_ping(id);
}

std::shared_ptr<SpdyStream> SpdySession::Impl::find(std::uint32_t id) const {
    auto table = shared_->table.lock();
    const auto found = table->streams.find(id);
    return found == table->streams.end() ? nullptr : found->second;
}

void SpdySession::Impl::session_ended(const Error& why) {
    std::map<std::uint32_t, std::shared_ptr<SpdyStream>> streams;
    std::deque<std::shared_ptr<SpdyStream>> unaccepted;
    {
        auto table = shared_->table.lock();
        table->ended = why;
        streams.swap(table->streams);
        unaccepted.swap(table->to_accept);
    }
    shared_->accept_changed.notify_all();
    for (const auto& [id, stream] : streams) stream->session_ended(why);
}

std::map<std::uint32_t, std::shared_ptr<SpdyStream>> SpdySession::Impl::start_closing() {
    auto table = shared_->table.lock();
    table->closing = true;
    return table->streams;
}

void SpdySession::Impl::stop_reading() {
    // The reader must not wait for a consumer that has left, or it would not see the peer's end.
    for (const auto& [id, stream] : start_closing()) stream->inbound().discard();
}

void SpdySession::Impl::say_goodbye() {
    for (const auto& [id, stream] : start_closing()) {
        // One whose our side has ended is complete for the peer; a reset could only make it throw away what
        // it has not read yet.
        if (!stream->write_ended()) stream->reset();
    }
    const auto last = shared_->table.lock()->last_peer_id;
    static_cast<void>(shared_->outbox.push(encode_goaway(last, 0)));
}

SpdySession::SpdySession(std::unique_ptr<ByteStream> connection, std::string early, Clock& clock,
                         SpdyOptions options)
    : impl_(std::make_unique<Impl>(std::move(connection), std::move(early), clock, options)) {}

SpdySession::~SpdySession() = default;

Result<std::shared_ptr<MuxStream>> SpdySession::accept(const CallContext& ctx) {
    return impl_->accept(ctx);
}

Result<std::shared_ptr<MuxStream>> SpdySession::open(const StreamHeaders& headers, const CallContext& ctx) {
    return impl_->open(headers, ctx);
}

Result<std::shared_ptr<MuxStream>> SpdySession::open_at_once(const StreamHeaders& headers,
                                                             const CallContext& /*ctx*/) {
    auto stream = impl_->open_at_once(headers);
    if (!stream) return fail(stream.error());
    return std::shared_ptr<MuxStream>(*std::move(stream));
}

void SpdySession::close(Duration linger) {
    impl_->stop_reading();
    impl_->engine().close(linger, [this] { impl_->say_goodbye(); });
}

void SpdySession::cancel() {
    impl_->engine().end({ErrorKind::Cancelled, "session cancelled", {}, {}});
}

std::stop_token SpdySession::ended() const {
    return impl_->engine().ended();
}

Error SpdySession::end_reason() const {
    return impl_->engine().end_reason().value_or(
        Error{ErrorKind::Internal, "the session has not ended", {}, {}});
}

}  // namespace k8sgpu::net::spdy
