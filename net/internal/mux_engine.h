// MuxEngine: what every multiplexed session does alike, whatever its frames look like: a reader thread that
// feeds the protocol, a writer thread that empties the outbox, pings, idle and silence limits, and the one
// end. Internal to net/.
//
// A session object owns its protocol state first and its engine last, so that the engine's destructor (which
// ends the session and joins) runs while the protocol still exists. end() may be called from any thread;
// close() and the destructor not from the engine's own threads or a callback of ended().
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

#include "common/guarded.h"
#include "common/thread.h"
#include "net/byte_pipe.h"
#include "net/byte_stream.h"
#include "net/internal/outbox.h"

namespace k8sgpu::net::internal {

class MuxProtocol {
  public:
    virtual ~MuxProtocol() = default;

    // Reader thread: bytes as they came from the connection. May block in MuxEngine::deliver, and in nothing
    // else. An error ends the session with it.
    virtual Result<void> receive(std::string_view bytes, const CallContext& ctx) = 0;
    virtual std::string make_ping() = 0;  // writer thread
    // Called exactly once, on any thread: fail every stream and everybody who waits.
    virtual void session_ended(const Error& why) = 0;
};

struct MuxEngineOptions {
    std::string name;
    Duration idle_timeout{0};  // zero: never, as below
    Duration ping_interval{0};
    Duration silence_limit{0};
    // A server's peer that has sent FIN is gone, and a reader stuck behind a slow consumer should notice. A
    // client's peer may well have said everything and left; the rest of it waits to be read.
    bool peer_end_is_final = false;
};

class MuxEngine {
  public:
    MuxEngine(std::unique_ptr<ByteStream> connection, std::string early, Clock& clock,
              MuxEngineOptions options, MuxProtocol& protocol, std::shared_ptr<Outbox> outbox);
    ~MuxEngine();

    // Ends the session at once; the first reason stays.
    void end(Error why);
    // See MuxSession::close. `goodbye` pushes the last frames.
    void close(Duration linger, const std::function<void()>& goodbye);

    std::stop_token ended() const { return ended_.get_token(); }
    std::optional<Error> end_reason() const { return *reason_.lock(); }

    // For receive(): hands bytes to a stream, waiting while it is full.
    Result<void> deliver(BytePipe& pipe, std::string_view bytes, const CallContext& ctx);

  private:
    void read_loop(const std::string& early, const std::stop_token& stop);
    void write_loop(const std::stop_token& stop);
    SteadyTime next_check() const;
    bool check_limits();  // false once the session has ended
    void shut_down(Duration linger, const std::function<void()>& goodbye);

    Clock& clock_;
    const MuxEngineOptions options_;
    MuxProtocol& protocol_;
    const std::shared_ptr<Outbox> outbox_;
    std::mutex connection_mutex_;  // keeps cancel() and the release apart; the threads use it freely
    std::unique_ptr<ByteStream> connection_;

    Guarded<std::optional<Error>> reason_;
    std::stop_source ended_;
    std::once_flag closed_once_;

    std::atomic<SteadyTime> last_received_;
    std::atomic<SteadyTime> last_activity_;
    std::atomic<bool> reader_blocked_{false};
    SteadyTime next_ping_;  // writer thread only

    std::mutex reader_mutex_;
    std::condition_variable_any reader_changed_;
    bool reader_done_ = false;

    Thread writer_;
    Thread reader_;
};

}  // namespace k8sgpu::net::internal
