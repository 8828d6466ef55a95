// WebSocket channel sessions (exec, attach) in every protocol and either role, from the frames of a peer.
#include "net/ws/channel_session.h"
#include "tests/fuzz/session.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace k8sgpu;
    using net::ws::ChannelProtocol;
    constexpr ChannelProtocol kProtocols[] = {ChannelProtocol::Binary, ChannelProtocol::BinaryV4,
                                              ChannelProtocol::BinaryV5, ChannelProtocol::Base64,
                                              ChannelProtocol::Base64V4};
    if (size > 60000) return 0;  // less than a stream's buffer, so that the order of reading does not matter
    fuzz::Input input(data, size);
    const unsigned choice = input.take_byte();
    net::ws::ChannelOptions options;
    options.role = choice % 2 == 0 ? net::MuxRole::Server : net::MuxRole::Client;
    options.protocol = kProtocols[choice / 2 % 5];
    auto pair = fuzz::connection_with(input.rest());
    net::ws::ChannelSession session(std::move(pair.first), {}, fuzz::fuzz_clock(),
                                    net::ws::remote_command_channels(
                                        options.role, {.in = true, .out = true, .err = true, .resize = true}),
                                    options);
    if (options.role == net::MuxRole::Server) {
        fuzz::drain(session, size);
        return 0;
    }
    for (const char* type : {"stdout", "stderr", "error", "stdin"}) {
        const auto stream = session.open({{"streamtype", type}}, fuzz::patiently());
        if (stream) fuzz::read_out(**stream, size);
    }
    return 0;
}
