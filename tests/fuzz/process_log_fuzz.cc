// Lines of a container's log as they lie on disk: a crash or a full disk may have left any bytes there.
#include "common/encoding.h"
#include "providers/process/log_reader.h"
#include "tests/fuzz/input.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace k8sgpu;
    using namespace k8sgpu::providers;
    fuzz::Input input(data, size);
    const unsigned choice = input.take_byte();
    LogRequest request;
    request.timestamps = (choice & 1U) != 0;
    if ((choice & 2U) != 0) request.limit_bytes = 1 + choice / 8;
    if ((choice & 4U) != 0) request.since_time = parse_rfc3339("2026-01-01T00:00:01Z");
    process::LogFilter filter(request, WallTime{});
    std::string shown;
    std::string_view rest = input.rest();
    while (!rest.empty() && !filter.full()) {
        const std::string_view line = rest.substr(0, rest.find('\n'));
        rest.remove_prefix(std::min(rest.size(), line.size() + 1));
        if (const auto parsed = process::parse_log_line(line); parsed)
            fuzz::require(parsed->text.size() + parsed->time.size() < line.size(), "a line holds its parts");
        filter.take(line, shown);
    }
    fuzz::require(!request.limit_bytes || shown.size() <= static_cast<std::size_t>(*request.limit_bytes),
                  "limitBytes holds");
    // A newline may be added to each line; nothing else is.
    fuzz::require(shown.size() <= 2 * size, "a log shows no more than it holds");
    return 0;
}
