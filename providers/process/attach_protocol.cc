#include "providers/process/attach_protocol.h"

#include <fmt/format.h>

#include <algorithm>

namespace k8sgpu::providers::process {
namespace {

enum class Type : std::uint8_t {
    Hello = 1,
    Input = 2,
    InputEnd = 3,
    Resize = 4,
    Welcome = 16,
    Output = 17,
    ErrorOutput = 18,
    Credit = 19,
    End = 20,
};

constexpr std::uint8_t kWantsIn = 1, kWantsOut = 2, kWantsErr = 4, kIsTerminal = 1;
constexpr std::size_t kMaxName = 253;

std::uint8_t byte_at(std::string_view bytes, std::size_t at) {
    return static_cast<std::uint8_t>(bytes[at]);
}
std::uint32_t number(std::string_view bytes, std::size_t at, std::size_t size) {
    std::uint32_t value = 0;
    for (std::size_t i = size; i > 0; --i) value = (value << 8U) | byte_at(bytes, at + i - 1);
    return value;
}
void put(std::string& out, std::uint32_t value, std::size_t size) {
    for (std::size_t i = 0; i < size; ++i) out += static_cast<char>((value >> (8U * i)) & 0xffU);
}

struct Encoder {
    std::string& out;

    void frame(Type type, std::size_t size) const {
        out += static_cast<char>(type);
        put(out, static_cast<std::uint32_t>(size), 4);
    }
    void flags(std::uint8_t version, std::uint8_t bits) const {
        put(out, version, 1);
        put(out, bits, 1);
    }
    void operator()(const AttachHello& m) const {
        frame(Type::Hello, 2 + m.container.size());
        flags(m.version, static_cast<std::uint8_t>((m.in ? kWantsIn : 0U) | (m.out ? kWantsOut : 0U) |
                                                   (m.err ? kWantsErr : 0U)));
        out += m.container;
    }
    void operator()(const AttachInput& m) const {
        frame(Type::Input, m.bytes.size());
        out += m.bytes;
    }
    void operator()(const AttachInputEnd&) const { frame(Type::InputEnd, 0); }
    void operator()(const AttachResize& m) const {
        frame(Type::Resize, 4);
        put(out, m.width, 2);
        put(out, m.height, 2);
    }
    void operator()(const AttachWelcome& m) const {
        frame(Type::Welcome, 2);
        flags(m.version, m.tty ? kIsTerminal : 0);
    }
    void operator()(const AttachOutput& m) const {
        frame(m.err ? Type::ErrorOutput : Type::Output, m.bytes.size());
        out += m.bytes;
    }
    void operator()(const AttachCredit& m) const {
        frame(Type::Credit, 4);
        put(out, m.bytes, 4);
    }
    void operator()(const AttachEnd& m) const {
        frame(Type::End, 1 + m.text.size());
        put(out, static_cast<std::uint8_t>(m.reason), 1);
        out += m.text;
    }
};

// nullopt: the payload does not fit the type, or there is no such type.
std::optional<AttachMessage> message_of(std::uint8_t type, std::string_view payload) {
    const std::size_t size = payload.size();
    switch (static_cast<Type>(type)) {
        case Type::Hello: {
            if (size < 3 || size > 2 + kMaxName) return std::nullopt;
            const std::uint8_t wants = byte_at(payload, 1);
            return AttachHello{byte_at(payload, 0), (wants & kWantsIn) != 0, (wants & kWantsOut) != 0,
                               (wants & kWantsErr) != 0, std::string(payload.substr(2))};
        }
        case Type::Input:
            return AttachInput{payload};
        case Type::InputEnd:
            return size == 0 ? std::optional<AttachMessage>(AttachInputEnd{}) : std::nullopt;
        case Type::Resize:
            if (size != 4) return std::nullopt;
            return AttachResize{static_cast<std::uint16_t>(number(payload, 0, 2)),
                                static_cast<std::uint16_t>(number(payload, 2, 2))};
        case Type::Welcome:
            // A later version may say more behind it.
            if (size < 2) return std::nullopt;
            return AttachWelcome{byte_at(payload, 0), (byte_at(payload, 1) & kIsTerminal) != 0};
        case Type::Output:
        case Type::ErrorOutput:
            return AttachOutput{static_cast<Type>(type) == Type::ErrorOutput, payload};
        case Type::Credit:
            return size == 4 ? std::optional<AttachMessage>(AttachCredit{number(payload, 0, 4)})
                             : std::nullopt;
        case Type::End: {
            if (size < 1) return std::nullopt;
            const std::uint8_t reason = byte_at(payload, 0);
            const bool known = reason <= static_cast<std::uint8_t>(AttachEndReason::Refused);
            return AttachEnd{known ? static_cast<AttachEndReason>(reason) : AttachEndReason::Refused,
                             payload.substr(1)};
        }
    }
    return std::nullopt;
}

}  // namespace

Result<std::optional<DecodedAttach>> decode_attach(std::string_view bytes) {
    if (bytes.size() < kAttachHeader) return std::optional<DecodedAttach>();
    const std::uint8_t type = byte_at(bytes, 0);
    const std::size_t size = number(bytes, 1, 4);
    if (size > kMaxAttachPayload) {
        return fail(ErrorKind::Protocol,
                    fmt::format("a frame of {} bytes; at most {} are allowed", size, kMaxAttachPayload));
    }
    if (bytes.size() < kAttachHeader + size) return std::optional<DecodedAttach>();
    auto message = message_of(type, bytes.substr(kAttachHeader, size));
    if (!message) {
        return fail(ErrorKind::Protocol,
                    fmt::format("a frame of type {} with {} bytes makes no sense", type, size));
    }
    return std::optional(DecodedAttach{std::move(*message), kAttachHeader + size});
}

void encode_attach(const AttachMessage& message, std::string& out) {
    std::visit(Encoder{out}, message);
}

}  // namespace k8sgpu::providers::process
