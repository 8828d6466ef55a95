// WebSocket frames in either role, whole and in two parts; the cut must not change what comes out.
#include <cstdint>
#include <cstdlib>
#include <string>

#include "net/ws/frame.h"

namespace {

using namespace k8sgpu::net;
using namespace k8sgpu::net::ws;

std::string decoded(MuxRole role, std::string_view bytes, std::size_t cut) {
    FrameDecoder decoder(role);
    std::string seen;
    for (const auto part : {bytes.substr(0, cut), bytes.substr(cut)}) {
        decoder.feed(part);
        while (true) {
            auto event = decoder.next();
            if (!event) return seen + "!";
            if (!event->has_value()) break;
            if (const auto* piece = std::get_if<Piece>(&**event)) {
                if (piece->first) seen += "M";
                seen.append(piece->bytes);
                if (piece->last) seen += ".";
            } else {
                seen += static_cast<char>('0' + (*event)->index());
            }
        }
    }
    return seen;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size == 0) return 0;
    const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
    const auto role = data[0] % 2 == 0 ? MuxRole::Server : MuxRole::Client;
    const std::size_t cut = bytes.empty() ? 0 : data[0] / 2 % bytes.size();
    if (decoded(role, bytes, 0) != decoded(role, bytes, cut)) std::abort();
    return 0;
}
