// Header blocks alone, with the compression undone: the fuzzer writes the plain pairs, zlib the block. What
// decodes must encode to a block that decodes to the same.
#include <zlib.h>

#include <cstdint>
#include <cstdlib>
#include <vector>

#include "net/spdy/header_codec.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace k8sgpu::net::spdy;
    z_stream stream{};
    if (::deflateInit(&stream, Z_BEST_SPEED) != Z_OK) return 0;
    std::vector<Bytef> block(size + 1024);
    stream.next_in = const_cast<Bytef*>(data);
    stream.avail_in = static_cast<uInt>(size);
    stream.next_out = block.data();
    stream.avail_out = static_cast<uInt>(block.size());
    ::deflate(&stream, Z_SYNC_FLUSH);
    const auto length = block.size() - stream.avail_out;
    ::deflateEnd(&stream);

    HeaderDecoder decoder;
    const auto headers = decoder.decode({reinterpret_cast<const char*>(block.data()), length});
    if (!headers) return 0;
    HeaderEncoder encoder;
    const auto encoded = encoder.encode(*headers);
    const auto again = encoded ? HeaderDecoder().decode(*encoded) : headers;
    if (!encoded || !again || *again != *headers) std::abort();
    return 0;
}
