// A SPDY session in either role from the frames of a peer; as client it first opens a stream of its own.
#include "net/spdy/session.h"
#include "tests/fuzz/session.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace k8sgpu;
    if (size > 60000) return 0;
    fuzz::Input input(data, size);
    const unsigned choice = input.take_byte();
    net::spdy::SpdyOptions options;
    options.role = choice % 2 == 0 ? net::MuxRole::Server : net::MuxRole::Client;
    options.max_streams = 64;
    auto pair = fuzz::connection_with(input.rest());
    net::spdy::SpdySession session(std::move(pair.first), {}, fuzz::fuzz_clock(), options);
    if (options.role == net::MuxRole::Client) {
        const auto stream = session.open({{"streamtype", "error"}}, fuzz::patiently());
        if (stream) fuzz::read_out(**stream, size);
    }
    fuzz::drain(session, size);
    return 0;
}
