// What agent and shim say to each other on the socket of a pod when somebody attaches to a container. Pure;
// any thread.
//
//   agent ── Hello ──▶ shim        one connection is one session with one run of one container
//         ◀─ Welcome ─             or End at once, with the reason
//         ── Input, InputEnd, Resize ──▶
//         ◀─ Output, Credit ─
//         ◀─ End ─                 the last word; then the shim closes
//
// A frame is one byte of type, four bytes of payload length (little endian), the payload. The agent has at
// most kAttachWindow bytes of input under way that no Credit has given back, so that neither a Resize nor the
// end of the connection waits behind a process that does not read.
//
// A shim outlives the program that started it: what is here may be added to, under a new version, never
// changed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>

#include "common/result.h"

namespace k8sgpu::providers::process {

inline constexpr std::uint8_t kAttachVersion = 1;
inline constexpr std::size_t kAttachHeader = 5;
inline constexpr std::size_t kMaxAttachPayload = 65536;
inline constexpr std::uint32_t kAttachWindow = 65536;

struct AttachHello {
    std::uint8_t version = kAttachVersion;
    bool in = false, out = false, err = false;
    std::string container;
};
struct AttachInput {
    std::string_view bytes;
};
struct AttachInputEnd {};
struct AttachResize {
    std::uint16_t width = 0, height = 0;
};
struct AttachWelcome {
    std::uint8_t version = kAttachVersion;
    bool tty = false;
};
struct AttachOutput {
    bool err = false;  // standard error
    std::string_view bytes;
};
struct AttachCredit {
    std::uint32_t bytes = 0;
};
enum class AttachEndReason : std::uint8_t {
    Ended = 0,       // the process ended, or this session's input did where that ends it
    TooSlow = 1,     // output was lost to this session only
    NotRunning = 2,  // no such container runs
    Refused = 3,     // version, too many sessions, bytes that make no sense
};
struct AttachEnd {
    AttachEndReason reason = AttachEndReason::Ended;
    std::string_view text;
};

using AttachMessage = std::variant<AttachHello, AttachInput, AttachInputEnd, AttachResize, AttachWelcome,
                                   AttachOutput, AttachCredit, AttachEnd>;

// A message and how many bytes it took. Views point into the decoded bytes.
struct DecodedAttach {
    AttachMessage message;
    std::size_t size = 0;
};

// The first message in `bytes`; nullopt while it is incomplete. Protocol when no continuation can make sense
// of them. The versions in Hello and Welcome are not judged here.
Result<std::optional<DecodedAttach>> decode_attach(std::string_view bytes);

// Appended to `out`. Bytes of a message: at most kMaxAttachPayload less what the message needs itself (16).
void encode_attach(const AttachMessage& message, std::string& out);

}  // namespace k8sgpu::providers::process
