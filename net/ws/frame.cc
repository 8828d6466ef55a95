#include "net/ws/frame.h"

#include <openssl/rand.h>
#include <spdlog/fmt/fmt.h>

#include <algorithm>

namespace k8sgpu::net::ws {

namespace {

constexpr std::size_t kMaxControlPayload = 125;

unsigned char byte_at(std::string_view text, std::size_t at) {
    return static_cast<unsigned char>(text[at]);
}

std::uint64_t read_big_endian(std::string_view bytes) {
    std::uint64_t value = 0;
    for (const char c : bytes) value = value << 8U | static_cast<unsigned char>(c);
    return value;
}

void append_big_endian(std::string& out, std::uint64_t value, unsigned bytes) {
    for (unsigned shift = bytes * 8; shift > 0;) {
        shift -= 8;
        out += static_cast<char>(value >> shift & 0xffU);
    }
}

bool is_control(Opcode opcode) {
    return opcode >= Opcode::Close;
}

bool is_known(unsigned opcode) {
    return opcode <= 2 || (opcode >= 8 && opcode <= 10);
}

}  // namespace

void FrameDecoder::feed(std::string_view bytes) {
    buffer_.erase(0, begin_);
    begin_ = 0;
    buffer_.append(bytes);
}

void FrameDecoder::unmask(std::size_t from, std::size_t size, std::uint64_t offset) {
    if (role_ == MuxRole::Client) return;
    for (std::size_t i = 0; i < size; ++i) {
        buffer_[from + i] = static_cast<char>(byte_at(buffer_, from + i) ^ frame_.mask[(offset + i) % 4]);
    }
}

Result<std::optional<FrameDecoder::Head>> FrameDecoder::parse_head() const {
    const auto rest = std::string_view(buffer_).substr(begin_);
    if (rest.size() < 2) return std::optional<Head>{};
    Head head;
    const auto first = byte_at(rest, 0);
    const auto second = byte_at(rest, 1);
    head.fin = (first & 0x80U) != 0;
    if ((first & 0x70U) != 0) return fail(ErrorKind::Protocol, "websocket frame uses an extension");
    if (!is_known(first & 0x0fU)) {
        return fail(ErrorKind::Protocol, fmt::format("websocket frame of unknown type {}", first & 0x0fU));
    }
    head.opcode = static_cast<Opcode>(first & 0x0fU);
    const bool masked = (second & 0x80U) != 0;
    if (masked != (role_ == MuxRole::Server)) {
        return fail(ErrorKind::Protocol, masked ? "websocket frame of a server is masked"
                                                : "websocket frame of a client is not masked");
    }
    head.length = second & 0x7fU;
    const std::size_t extra = head.length == 126 ? 2 : head.length == 127 ? 8 : 0;
    head.size = 2 + extra + (masked ? 4 : 0);
    if (rest.size() < head.size) return std::optional<Head>{};
    if (extra > 0) head.length = read_big_endian(rest.substr(2, extra));
    if (head.length >> 63U != 0) return fail(ErrorKind::Protocol, "websocket frame length is negative");
    if (is_control(head.opcode) && (!head.fin || head.length > kMaxControlPayload)) {
        return fail(ErrorKind::Protocol, "websocket control frame is fragmented or too long");
    }
    if (masked) {
        for (std::size_t i = 0; i < 4; ++i) head.mask[i] = byte_at(rest, 2 + extra + i);
    }
    return std::optional<Head>(head);
}

Result<std::optional<Event>> FrameDecoder::next() {
    if (in_frame_) return next_piece();
    auto head = parse_head();
    if (!head) return fail(head.error());
    if (!head->has_value()) return std::optional<Event>{};
    if (is_control((*head)->opcode)) return control_event(**head);
    if (auto ok = start_data(**head); !ok) return fail(ok.error());
    return next_piece();
}

Result<std::optional<Event>> FrameDecoder::control_event(const Head& head) {
    const auto length = static_cast<std::size_t>(head.length);
    if (buffer_.size() - begin_ < head.size + length) return std::optional<Event>{};
    frame_ = head;
    unmask(begin_ + head.size, length, 0);
    auto payload = buffer_.substr(begin_ + head.size, length);
    begin_ += head.size + length;
    if (head.opcode == Opcode::Ping) return std::optional<Event>(PingFrame{std::move(payload)});
    if (head.opcode == Opcode::Pong) return std::optional<Event>(PongFrame{std::move(payload)});
    if (payload.empty()) return std::optional<Event>(CloseFrame{});
    if (payload.size() == 1) return fail(ErrorKind::Protocol, "websocket close frame is too short");
    const auto code = static_cast<std::uint16_t>(read_big_endian(std::string_view(payload).substr(0, 2)));
    return std::optional<Event>(CloseFrame{code, payload.substr(2)});
}

Result<void> FrameDecoder::start_data(const Head& head) {
    const bool continues = head.opcode == Opcode::Continuation;
    if (continues != in_message_) {
        return fail(ErrorKind::Protocol, continues ? "websocket message continues before its start"
                                                   : "websocket message starts inside another");
    }
    if (!continues) {
        in_message_ = true;
        message_kind_ = head.opcode;
        message_fresh_ = true;
    }
    begin_ += head.size;
    in_frame_ = true;
    frame_ = head;
    left_ = head.length;
    return {};
}

std::optional<Event> FrameDecoder::next_piece() {
    const auto available = static_cast<std::size_t>(std::min<std::uint64_t>(left_, buffer_.size() - begin_));
    if (available == 0 && left_ > 0) return std::nullopt;
    unmask(begin_, available, frame_.length - left_);
    Piece piece;
    piece.kind = message_kind_;
    piece.first = message_fresh_;
    piece.bytes = std::string_view(buffer_).substr(begin_, available);
    begin_ += available;
    left_ -= available;
    message_fresh_ = false;
    in_frame_ = left_ > 0;
    piece.last = frame_.fin && !in_frame_;
    if (piece.last) in_message_ = false;
    return piece;
}

std::string encode_frame(Opcode opcode, std::string_view payload, MuxRole role) {
    std::string out;
    out.reserve(payload.size() + 14);
    out += static_cast<char>(0x80U | static_cast<unsigned>(opcode));
    const unsigned mask_bit = role == MuxRole::Client ? 0x80U : 0U;
    if (payload.size() < 126) {
        out += static_cast<char>(mask_bit | static_cast<unsigned>(payload.size()));
    } else if (payload.size() <= 0xffff) {
        out += static_cast<char>(mask_bit | 126U);
        append_big_endian(out, payload.size(), 2);
    } else {
        out += static_cast<char>(mask_bit | 127U);
        append_big_endian(out, payload.size(), 8);
    }
    if (role == MuxRole::Server) return out.append(payload);
    // RFC 6455 §10.3: unpredictable, so that no page can make us send bytes of its choice through a proxy.
    unsigned char mask[4] = {};
    RAND_bytes(mask, sizeof mask);
    out.append(reinterpret_cast<const char*>(mask), sizeof mask);
    for (std::size_t i = 0; i < payload.size(); ++i) {
        out += static_cast<char>(byte_at(payload, i) ^ mask[i % 4]);
    }
    return out;
}

std::string encode_close(std::uint16_t code, std::string_view reason, MuxRole role) {
    std::string payload;
    if (code != kCloseNoCode) {
        append_big_endian(payload, code, 2);
        payload.append(reason.substr(0, kMaxControlPayload - 2));
    }
    return encode_frame(Opcode::Close, payload, role);
}

}  // namespace k8sgpu::net::ws
