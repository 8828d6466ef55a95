// WebSocket frames (RFC 6455 §5): bytes to events and back, for either side. Pure; one thread.
//
// Data messages come in pieces as they arrive, whatever their length and fragmentation, so that none needs
// memory of its size; whoever needs a whole message joins the pieces within a limit of his own.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>

#include "common/result.h"
#include "net/spdy/session.h"

namespace k8sgpu::net::ws {

enum class Opcode : std::uint8_t {
    Continuation = 0,
    Text = 1,
    Binary = 2,
    Close = 8,
    Ping = 9,
    Pong = 10,
};

inline constexpr std::uint16_t kCloseNormal = 1000;
inline constexpr std::uint16_t kCloseGoingAway = 1001;
inline constexpr std::uint16_t kCloseProtocolError = 1002;
inline constexpr std::uint16_t kCloseNoCode = 1005;  // never on the wire

struct Piece {
    Opcode kind = Opcode::Binary;  // Text or Binary, of the whole message
    bool first = false;            // begins a message; may be empty even if the message is not
    bool last = false;             // ends it
    std::string_view bytes;        // valid until the decoder's next call
};
struct PingFrame {
    std::string payload;
};
struct PongFrame {
    std::string payload;
};
struct CloseFrame {
    std::uint16_t code = kCloseNoCode;
    std::string reason;
    bool is_orderly() const {
        return code == kCloseNormal || code == kCloseGoingAway || code == kCloseNoCode;
    }
};
using Event = std::variant<Piece, PingFrame, PongFrame, CloseFrame>;

class FrameDecoder {
  public:
    // `role` is ours: a server's peer must mask, a client's must not.
    explicit FrameDecoder(MuxRole role) : role_(role) {}

    void feed(std::string_view bytes);
    // The next event, or nothing until more is fed. Protocol on a violation; the decoder is then spent.
    Result<std::optional<Event>> next();

  private:
    struct Head {
        bool fin = false;
        Opcode opcode = Opcode::Continuation;
        std::uint64_t length = 0;
        std::size_t size = 0;  // of the head itself
        unsigned char mask[4] = {};
    };
    Result<std::optional<Head>> parse_head() const;
    Result<std::optional<Event>> control_event(const Head& head);
    Result<void> start_data(const Head& head);
    std::optional<Event> next_piece();
    void unmask(std::size_t from, std::size_t size, std::uint64_t offset);

    const MuxRole role_;
    std::string buffer_;
    std::size_t begin_ = 0;  // buffer_[begin_..] is not consumed yet
    bool in_frame_ = false;
    Head frame_;               // the data frame under way
    std::uint64_t left_ = 0;   // of its payload
    bool in_message_ = false;  // a message without its last frame yet
    Opcode message_kind_ = Opcode::Binary;
    bool message_fresh_ = false;  // its first piece was not given out yet
};

// One frame with a whole message or a control payload (at most 125 bytes); masked when `role` is Client.
std::string encode_frame(Opcode opcode, std::string_view payload, MuxRole role);
std::string encode_close(std::uint16_t code, std::string_view reason, MuxRole role);

}  // namespace k8sgpu::net::ws
