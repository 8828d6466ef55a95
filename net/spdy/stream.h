// One stream of a SpdySession, and what the streams share with their session. Internal to net/spdy/.
//
// The table holds a stream until both directions have ended or it was reset; the application may hold it
// longer and still read what had arrived.
#pragma once

#include <condition_variable>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>

#include "common/guarded.h"
#include "net/byte_pipe.h"
#include "net/internal/outbox.h"
#include "net/mux_session.h"
#include "net/spdy/header_codec.h"

namespace k8sgpu::net::spdy {

class SpdyStream;

struct SpdyShared {
    struct Table {
        std::map<std::uint32_t, std::shared_ptr<SpdyStream>> streams;
        std::deque<std::shared_ptr<SpdyStream>> to_accept;
        std::uint32_t last_peer_id = 0;
        std::uint32_t next_own_id = 1;
        bool closing = false;
        std::optional<Error> ended;
    };

    void forget(std::uint32_t id) {
        std::shared_ptr<SpdyStream> last;  // freed behind the lock
        auto locked = table.lock();
        const auto found = locked->streams.find(id);
        if (found == locked->streams.end()) return;
        last = std::move(found->second);
        locked->streams.erase(found);
    }

    internal::Outbox outbox;
    std::shared_ptr<BufferPool> spare;  // for inbound bytes; null: none. Set before the first stream
    Guarded<Table> table;
    std::condition_variable_any accept_changed;
    // Held while a block is compressed and queued, so that both happen in the same order.
    Guarded<HeaderEncoder> encoder;
};

class SpdyStream final : public MuxStream {
  public:
    SpdyStream(std::uint32_t id, StreamHeaders headers, std::size_t buffer,
               std::shared_ptr<SpdyShared> shared);

    std::uint32_t id() const override { return id_; }
    const StreamHeaders& headers() const override { return headers_; }
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
    void peer_replied();
    Result<void> wait_for_reply(const CallContext& ctx);
    void peer_ended();             // FIN
    void end_our_side_silently();  // a unidirectional stream of the peer's
    void peer_reset(std::uint32_t status);
    void session_ended(const Error& why);
    bool read_ended() const { return state_.lock()->read_ended; }
    bool write_ended() const { return state_.lock()->write_ended; }
    void reset_with(std::uint32_t status);

  private:
    struct State {
        bool read_ended = false;   // the peer's FIN came
        bool write_ended = false;  // our FIN went out
        bool reset = false;        // by either side
        bool replied = false;
        std::optional<Error> failed;
    };
    bool mark_reset(const Error& why);  // false when there was nothing left to reset

    const std::uint32_t id_;
    const StreamHeaders headers_;
    const std::shared_ptr<SpdyShared> shared_;
    const internal::Outbox::LanePtr lane_;
    BytePipe inbound_;
    Guarded<State> state_;
    std::condition_variable_any replied_;
};

}  // namespace k8sgpu::net::spdy
