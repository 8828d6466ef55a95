// What the kubelet API decides from a request's head alone: path, query, log options, ports; and the terminal
// sizes that follow on a stream of their own.
#include "kubelet_api/command_io.h"
#include "kubelet_api/log_query.h"
#include "kubelet_api/port_pairs.h"
#include "kubelet_api/query.h"
#include "net/http_head.h"
#include "tests/fuzz/input.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace k8sgpu;
    using namespace k8sgpu::kubelet_api;
    const fuzz::Input input(data, size);
    const std::string_view bytes = input.rest();
    if (const auto head = net::parse_request_head(bytes); head) {
        if (const auto segments = path_segments(head->path()); segments) {
            for (const auto& segment : *segments)
                fuzz::require(segment != "." && segment != "..", "no segment climbs");
        }
        const Query query(head->query());
        const auto log = decode_log_query(query);
        if (!log) {
            const int status = log.error().http_status.value_or(0);
            fuzz::require(status == 400 || status == 422, "a refused log query is 400 or 422");
        } else {
            fuzz::require(log->tail_lines.value_or(0) >= 0, "tailLines is not negative");
            fuzz::require(log->limit_bytes.value_or(1) >= 1, "limitBytes is positive");
        }
        for (const auto& port : query.all("ports")) {
            if (const auto number = parse_port(port); number) fuzz::require(*number != 0, "a port is not 0");
        }
    }
    SizeDecoder sizes;
    const std::size_t middle = bytes.size() / 2;
    if (sizes.feed(bytes.substr(0, middle))) static_cast<void>(sizes.feed(bytes.substr(middle)));
    return 0;
}
