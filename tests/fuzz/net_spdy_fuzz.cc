// SPDY frames and the header blocks inside them, fed in two parts that the first byte chooses.
#include <cstdint>

#include "net/spdy/frame.h"
#include "net/spdy/header_codec.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace k8sgpu::net::spdy;
    if (size == 0) return 0;
    const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
    const std::size_t cut = bytes.empty() ? 0 : data[0] % bytes.size();
    FrameDecoder frames;
    HeaderDecoder headers;
    for (const auto part : {bytes.substr(0, cut), bytes.substr(cut)}) {
        frames.feed(part);
        while (true) {
            auto event = frames.next();
            if (!event) return 0;
            if (!event->has_value()) break;
            const std::string* block = nullptr;
            if (const auto* syn = std::get_if<SynStream>(&**event)) block = &syn->header_block;
            if (const auto* reply = std::get_if<SynReply>(&**event)) block = &reply->header_block;
            if (const auto* extra = std::get_if<ExtraHeaders>(&**event)) block = &extra->header_block;
            if (block != nullptr && !headers.decode(*block)) return 0;
        }
    }
    return 0;
}
