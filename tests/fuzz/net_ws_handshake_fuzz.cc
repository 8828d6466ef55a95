// The WebSocket handshake in both directions: heads that a peer sent, and what we answer to them.
#include "net/ws/handshake.h"
#include "tests/fuzz/input.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace k8sgpu;
    const fuzz::Input input(data, size);
    if (const auto request = net::parse_request_head(input.rest()); request) {
        if (const auto fine = net::ws::check_upgrade_request(*request); fine) {
            const auto offered = request->headers.list("sec-websocket-protocol");
            const std::string answer =
                net::ws::write_upgrade_response(*request, offered.empty() ? "" : offered.front());
            const auto head = net::parse_response_head(answer);
            fuzz::require(head.has_value() && head->status == 101, "our answer is a head");
            fuzz::require(
                net::ws::check_upgrade_response(*head, request->headers.get("sec-websocket-key")).has_value(),
                "our answer fits the key");
        } else {
            const int status = fine.error().http_status.value_or(0);
            fuzz::require(status == 400 || status == 426, "a refusal is 400 or 426");
        }
    }
    if (const auto response = net::parse_response_head(input.rest()); response) {
        static_cast<void>(net::ws::check_upgrade_response(*response, "dGhlIHNhbXBsZSBub25jZQ=="));
    }
    return 0;
}
