// The body of a watch, cut anywhere: the same events come out. And what a Status in an answer turns into.
#include "kube/transport.h"
#include "kube/watch_decoder.h"
#include "tests/fuzz/input.h"

namespace {

using namespace k8sgpu;

std::string decoded(const std::vector<std::string_view>& parts) {
    kube::WatchDecoder decoder(4096);
    std::vector<kube::WatchEvent> events;
    bool fine = true;
    for (const std::string_view part : parts) fine = fine && decoder.feed(part, events).has_value();
    std::string seen;
    for (const auto& event : events) {
        seen += static_cast<char>('0' + static_cast<int>(event.type));
        seen += dump_json(event.object);
    }
    return fine ? seen : seen + "!";
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    fuzz::Input input(data, size);
    const auto parts = input.rest_in_two();
    fuzz::require(decoded({input.rest()}) == decoded(parts), "the cut does not change the events");
    return 0;
}
