#include "net/spdy/frame.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>

namespace k8sgpu::net::spdy {

namespace {

constexpr std::size_t kHeader = 8;
constexpr std::uint8_t kFin = 0x01;
constexpr std::uint8_t kUnidirectional = 0x02;
constexpr std::uint32_t kIdMask = 0x7fffffff;
constexpr std::uint16_t kVersion = 3;

enum Type : std::uint16_t {
    kSynStream = 1,
    kSynReply = 2,
    kRstStream = 3,
    kSettings = 4,
    kPing = 6,
    kGoAway = 7,
    kHeaders = 8,
    kWindowUpdate = 9,
};

std::uint32_t read_u32(std::string_view bytes, std::size_t at) {
    std::uint32_t value = 0;
    for (std::size_t i = 0; i < 4; ++i) value = value << 8U | static_cast<unsigned char>(bytes[at + i]);
    return value;
}

void append_u32(std::string& out, std::uint32_t value) {
    for (unsigned shift = 32; shift > 0;) {
        shift -= 8;
        out += static_cast<char>(value >> shift & 0xffU);
    }
}

std::string control(std::uint16_t type, std::uint8_t flags, std::string_view payload) {
    std::string out;
    out.reserve(kHeader + payload.size());
    append_u32(out, 0x80000000U | std::uint32_t{kVersion} << 16U | type);
    append_u32(out, std::uint32_t{flags} << 24U | static_cast<std::uint32_t>(payload.size()));
    return out.append(payload);
}

std::string control_u32(std::uint16_t type, std::initializer_list<std::uint32_t> words) {
    std::string payload;
    for (const auto word : words) append_u32(payload, word);
    return control(type, 0, payload);
}

}  // namespace

void FrameDecoder::feed(std::string_view bytes) {
    buffer_.erase(0, begin_);
    begin_ = 0;
    buffer_.append(bytes);
}

std::optional<Event> FrameDecoder::next_data_piece() {
    const auto available = std::min(data_left_, buffer_.size() - begin_);
    if (available == 0 && data_left_ > 0) return std::nullopt;
    const auto bytes = std::string_view(buffer_).substr(begin_, available);
    begin_ += available;
    data_left_ -= available;
    in_data_ = data_left_ > 0;
    return DataPiece{data_stream_, bytes, data_fin_ && !in_data_};
}

Result<std::optional<Event>> FrameDecoder::next() {
    if (in_data_) return next_data_piece();
    const auto rest = std::string_view(buffer_).substr(begin_);
    if (rest.size() < kHeader) return std::optional<Event>{};
    const auto word = read_u32(rest, 0);
    const auto flags = static_cast<std::uint8_t>(rest[4]);
    const std::size_t length = read_u32(rest, 4) & 0xffffffU;
    if ((word & 0x80000000U) == 0) {
        begin_ += kHeader;
        in_data_ = true;
        data_stream_ = word;
        data_left_ = length;
        data_fin_ = (flags & kFin) != 0;
        return next_data_piece();
    }
    if (const auto version = word >> 16U & 0x7fffU; version != kVersion) {
        return fail(ErrorKind::Protocol, fmt::format("SPDY version {} instead of 3", version));
    }
    if (length > kMaxControl) {
        return fail(ErrorKind::Protocol, fmt::format("SPDY control frame of {} bytes", length));
    }
    if (rest.size() < kHeader + length) return std::optional<Event>{};
    auto event = parse_control(rest.substr(0, kHeader + length));
    if (!event) return fail(event.error());
    begin_ += kHeader + length;
    return std::optional<Event>(*std::move(event));
}

Result<Event> FrameDecoder::parse_control(std::string_view frame) const {
    const auto type = static_cast<std::uint16_t>(read_u32(frame, 0) & 0xffffU);
    const auto flags = static_cast<std::uint8_t>(frame[4]);
    const bool fin = (flags & kFin) != 0;
    const auto payload = frame.substr(kHeader);
    const auto needs = [&](std::size_t size) { return payload.size() >= size; };
    switch (type) {
        case kSynStream:
            if (!needs(10)) break;
            return Event(SynStream{read_u32(payload, 0) & kIdMask, fin, (flags & kUnidirectional) != 0,
                                   std::string(payload.substr(10))});
        case kSynReply:
            if (!needs(4)) break;
            return Event(SynReply{read_u32(payload, 0) & kIdMask, fin, std::string(payload.substr(4))});
        case kRstStream:
            if (!needs(8)) break;
            return Event(RstStream{read_u32(payload, 0) & kIdMask, read_u32(payload, 4)});
        case kPing:
            if (!needs(4)) break;
            return Event(Ping{read_u32(payload, 0)});
        case kGoAway:
            if (!needs(8)) break;
            return Event(GoAway{read_u32(payload, 0) & kIdMask, read_u32(payload, 4)});
        case kHeaders:
            if (!needs(4)) break;
            return Event(ExtraHeaders{read_u32(payload, 0) & kIdMask, fin, std::string(payload.substr(4))});
        case kSettings:
        case kWindowUpdate:
            return Event(Ignored{type});
        default:
            return fail(ErrorKind::Protocol, fmt::format("SPDY control frame of unknown type {}", type));
    }
    return fail(ErrorKind::Protocol, fmt::format("SPDY control frame of type {} is too short", type));
}

std::string encode_data(std::uint32_t stream_id, std::string_view bytes, bool fin) {
    std::string out;
    out.reserve(kHeader + bytes.size());
    append_u32(out, stream_id & kIdMask);
    append_u32(out, (fin ? std::uint32_t{kFin} << 24U : 0U) | static_cast<std::uint32_t>(bytes.size()));
    return out.append(bytes);
}

std::string encode_syn_stream(std::uint32_t stream_id, std::string_view header_block, bool fin) {
    std::string payload;
    append_u32(payload, stream_id);
    append_u32(payload, 0);   // associated stream: only pushed streams have one
    payload.append(2, '\0');  // priority and slot
    payload.append(header_block);
    return control(kSynStream, fin ? kFin : 0, payload);
}

std::string encode_syn_reply(std::uint32_t stream_id, std::string_view header_block, bool fin) {
    std::string payload;
    append_u32(payload, stream_id);
    payload.append(header_block);
    return control(kSynReply, fin ? kFin : 0, payload);
}

std::string encode_rst_stream(std::uint32_t stream_id, std::uint32_t status) {
    return control_u32(kRstStream, {stream_id, status});
}

std::string encode_ping(std::uint32_t id) {
    return control_u32(kPing, {id});
}

std::string encode_goaway(std::uint32_t last_stream_id, std::uint32_t status) {
    return control_u32(kGoAway, {last_stream_id, status});
}

}  // namespace k8sgpu::net::spdy
