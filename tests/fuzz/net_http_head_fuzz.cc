// Both head parsers on arbitrary bytes; whatever is accepted must be readable again when written.
#include <cstdint>
#include <cstdlib>

#include "net/http_head.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace k8sgpu::net;
    const std::string_view bytes(reinterpret_cast<const char*>(data), size);
    std::size_t resume = 0;
    const auto end = find_head_end(bytes, &resume);
    const auto head = bytes.substr(0, end.value_or(size));
    static_cast<void>(parse_response_head(head));
    const auto request = parse_request_head(head);
    if (!request) return 0;
    static_cast<void>(request->headers.list("connection"));
    static_cast<void>(request->is_upgrade_to("websocket"));
    const auto again =
        parse_request_head(write_request_head(request->method, request->target, request->headers.lines()));
    if (!again || again->target != request->target || again->headers.lines() != request->headers.lines()) {
        std::abort();
    }
    return 0;
}
