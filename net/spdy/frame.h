// SPDY/3 frames: bytes to events and back, without state of streams or headers. Pure; one thread.
//
//   control: |1| version 3 (15) | type (16) | flags (8) | length (24) | payload
//   data:    |0| stream id (31)             | flags (8) | length (24) | payload
//
// Header blocks stay compressed here (spdy/header_codec.h), because their order matters to the compressor.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>

#include "common/result.h"

namespace k8sgpu::net::spdy {

enum RstStatus : std::uint32_t {
    kRstProtocolError = 1,
    kRstInvalidStream = 2,
    kRstRefused = 3,
    kRstCancel = 5,
    kRstInternalError = 6,
};

struct DataPiece {
    std::uint32_t stream_id = 0;
    std::string_view bytes;  // valid until the decoder's next call
    bool fin = false;        // on the last piece of a frame that carries it
};
struct SynStream {
    std::uint32_t stream_id = 0;
    bool fin = false;
    bool unidirectional = false;  // the receiver may not send
    std::string header_block;
};
struct SynReply {
    std::uint32_t stream_id = 0;
    bool fin = false;
    std::string header_block;
};
struct RstStream {
    std::uint32_t stream_id = 0;
    std::uint32_t status = 0;
};
struct Ping {
    std::uint32_t id = 0;
};
struct GoAway {
    std::uint32_t last_stream_id = 0;
    std::uint32_t status = 0;
};
struct ExtraHeaders {
    std::uint32_t stream_id = 0;
    bool fin = false;
    std::string header_block;
};
struct Ignored {  // SETTINGS, WINDOW_UPDATE
    std::uint16_t type = 0;
};
using Event = std::variant<DataPiece, SynStream, SynReply, RstStream, Ping, GoAway, ExtraHeaders, Ignored>;

class FrameDecoder {
  public:
    static constexpr std::size_t kMaxControl = 256U << 10U;

    void feed(std::string_view bytes);
    // The next event, or nothing until more is fed. Protocol on what SPDY/3.1 as Kubernetes uses it does not
    // know (other version, unknown type, control frame beyond kMaxControl); the decoder is then spent. A data
    // frame comes in pieces as it arrives, so that its length costs no memory.
    Result<std::optional<Event>> next();

  private:
    std::optional<Event> next_data_piece();
    Result<Event> parse_control(std::string_view frame) const;

    std::string buffer_;
    std::size_t begin_ = 0;  // buffer_[begin_..] is not consumed yet
    bool in_data_ = false;
    std::uint32_t data_stream_ = 0;
    std::size_t data_left_ = 0;
    bool data_fin_ = false;
};

// `bytes` shorter than 2^24.
std::string encode_data(std::uint32_t stream_id, std::string_view bytes, bool fin);
std::string encode_syn_stream(std::uint32_t stream_id, std::string_view header_block, bool fin = false);
std::string encode_syn_reply(std::uint32_t stream_id, std::string_view header_block, bool fin = false);
std::string encode_rst_stream(std::uint32_t stream_id, std::uint32_t status);
std::string encode_ping(std::uint32_t id);
std::string encode_goaway(std::uint32_t last_stream_id, std::uint32_t status);

}  // namespace k8sgpu::net::spdy
