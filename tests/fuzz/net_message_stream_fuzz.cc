// The byte stream inside WebSocket messages that carries a tunnelled port-forward, in either role.
#include "net/ws/message_stream.h"
#include "tests/fuzz/session.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace k8sgpu;
    if (size > 60000) return 0;
    fuzz::Input input(data, size);
    const auto role = input.take_byte() % 2 == 0 ? net::MuxRole::Server : net::MuxRole::Client;
    const auto parts = input.rest_in_two();
    auto pair = fuzz::connection_with(parts[1]);
    net::ws::MessageStream stream(std::move(pair.first), std::string(parts[0]), role);
    fuzz::read_out(stream, size);
    return 0;
}
