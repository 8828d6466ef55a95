#include "net/internal/mux_engine.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <array>

namespace k8sgpu::net::internal {

namespace {

// How often a reader that waits for a slow consumer looks whether its peer is still there.
constexpr Duration kHangUpCheck{1'000};

}  // namespace

MuxEngine::MuxEngine(std::unique_ptr<ByteStream> connection, std::string early, Clock& clock,
                     MuxEngineOptions options, MuxProtocol& protocol, std::shared_ptr<Outbox> outbox)
    : clock_(clock),
      options_(std::move(options)),
      protocol_(protocol),
      outbox_(std::move(outbox)),
      connection_(std::move(connection)),
      last_received_(clock.now()),
      last_activity_(clock.now()),
      next_ping_(clock.now() + options_.ping_interval),
      writer_(options_.name + "-write", [this](const std::stop_token& stop) { write_loop(stop); }),
      reader_(options_.name + "-read",
              [this, early = std::move(early)](const std::stop_token& stop) { read_loop(early, stop); }) {}

MuxEngine::~MuxEngine() {
    end({ErrorKind::Cancelled, "session cancelled", {}, {}});
    reader_.stop();
    writer_.stop();
}

void MuxEngine::end(Error why) {
    {
        auto reason = reason_.lock();
        if (reason->has_value()) return;
        *reason = why;
    }
    outbox_->close(why);
    protocol_.session_ended(why);
    {
        const std::lock_guard lock(connection_mutex_);
        if (connection_) connection_->cancel();
    }
    ended_.request_stop();
}

void MuxEngine::close(Duration linger, const std::function<void()>& goodbye) {
    std::call_once(closed_once_, [&] { shut_down(linger, goodbye); });
}

void MuxEngine::shut_down(Duration linger, const std::function<void()>& goodbye) {
    // Without a deadline: see SpdySession::close(). The idle timeout bounds it, because a write that makes no
    // progress ends the session.
    const auto ctx = CallContext::until_stopped(clock_, ended_.get_token());
    if (outbox_->wait_drained(ctx)) {
        goodbye();
        outbox_->seal();
    }
    if (outbox_->wait_drained(ctx)) {
        std::unique_lock lock(reader_mutex_);
        clock_.wait_until(reader_changed_, lock, clock_.now() + linger, {}, [&] { return reader_done_; });
    }
    if (!end_reason()) static_cast<void>(connection_->shut_write());  // a courtesy; the end comes anyway
    end({ErrorKind::Unavailable, "session closed", {}, {}});
    reader_.stop();
    writer_.stop();
    const std::lock_guard lock(connection_mutex_);
    connection_.reset();  // the peer sees the end now, not when the session object goes
}

Result<void> MuxEngine::deliver(BytePipe& pipe, std::string_view bytes, const CallContext& ctx) {
    while (!bytes.empty()) {
        auto taken = pipe.write_some(bytes, ctx.with_timeout(Duration::zero()));
        if (!taken && taken.error().kind == ErrorKind::Timeout) {
            reader_blocked_ = true;
            taken = pipe.write_some(bytes, ctx.with_timeout(kHangUpCheck));
            last_received_ = clock_.now();  // it could not listen meanwhile
            reader_blocked_ = false;
        }
        if (taken) {
            bytes.remove_prefix(*taken);
            continue;
        }
        if (taken.error().kind == ErrorKind::Timeout) {
            if (options_.peer_end_is_final && connection_->peer_hung_up()) {
                return fail(ErrorKind::Unavailable, "peer closed the connection");
            }
            continue;
        }
        // A stream that was ended or cancelled meanwhile takes nothing more; that is not the session's end.
        if (ctx.stop().stop_requested()) return fail(taken.error());
        return {};
    }
    return {};
}

void MuxEngine::read_loop(const std::string& early, const std::stop_token& stop) {
    // Ended by stop (the owner joins) or by ended_ (somebody called end()), which cancels the connection.
    std::stop_source either;
    const auto ask = [&either] { either.request_stop(); };
    const std::stop_callback on_stop(stop, ask);
    const std::stop_callback on_end(ended_.get_token(), ask);
    const auto ctx = CallContext::until_stopped(clock_, either.get_token());

    Result<void> result = early.empty() ? Result<void>{} : protocol_.receive(early, ctx);
    std::array<char, 32U << 10U> buffer;
    while (result) {
        const auto got = connection_->read(buffer, ctx);
        if (!got) {
            result = fail(got.error());
        } else if (*got == 0) {
            result = fail(ErrorKind::Unavailable, "peer closed the connection");
        } else {
            last_received_ = clock_.now();
            last_activity_ = clock_.now();
            result = protocol_.receive({buffer.data(), *got}, ctx);
        }
    }
    {
        const std::lock_guard lock(reader_mutex_);
        reader_done_ = true;
        reader_changed_.notify_all();
    }
    end(result.error());
}

SteadyTime MuxEngine::next_check() const {
    auto next = SteadyTime::max();
    if (options_.ping_interval > Duration::zero()) next = std::min(next, next_ping_);
    if (options_.idle_timeout > Duration::zero()) {
        next = std::min(next, last_activity_.load() + options_.idle_timeout);
    }
    if (options_.silence_limit > Duration::zero()) {
        // While the reader waits for a consumer it hears nothing, so look again a little later.
        const auto from = reader_blocked_ ? clock_.now() : last_received_.load();
        next = std::min(next, from + options_.silence_limit);
    }
    return next;
}

bool MuxEngine::check_limits() {
    const auto now = clock_.now();
    if (options_.idle_timeout > Duration::zero() && now >= last_activity_.load() + options_.idle_timeout) {
        end({ErrorKind::Timeout,
             fmt::format("session idle for {} s", options_.idle_timeout.count() / 1000),
             {},
             {}});
        return false;
    }
    if (options_.silence_limit > Duration::zero() && !reader_blocked_ &&
        now >= last_received_.load() + options_.silence_limit) {
        end({ErrorKind::Unavailable,
             fmt::format("peer has not answered for {} s", options_.silence_limit.count() / 1000),
             {},
             {}});
        return false;
    }
    if (options_.ping_interval > Duration::zero() && now >= next_ping_) {
        next_ping_ = now + options_.ping_interval;
        // A session that is closing takes no more frames, and needs no ping.
        static_cast<void>(outbox_->push_first(protocol_.make_ping()));
    }
    return true;
}

void MuxEngine::write_loop(const std::stop_token& stop) {
    const auto forever = CallContext::until_stopped(clock_, stop);
    while (!stop.stop_requested() && check_limits()) {
        const auto batch = outbox_->take(clock_, next_check(), stop);
        if (!batch) {
            if (ended_.stop_requested()) return;
            continue;
        }
        const auto ctx =
            options_.idle_timeout > Duration::zero() ? forever.with_timeout(options_.idle_timeout) : forever;
        if (auto ok = connection_->write(*batch, ctx); !ok) {
            end(ok.error());
            return;
        }
        last_activity_ = clock_.now();
        outbox_->written();
    }
}

}  // namespace k8sgpu::net::internal
