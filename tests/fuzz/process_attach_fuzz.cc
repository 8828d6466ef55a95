// What agent and shim say to each other on a pod's socket, from either side: a stream of messages.
#include "providers/process/attach_protocol.h"
#include "tests/fuzz/input.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace k8sgpu;
    using namespace k8sgpu::providers::process;
    const fuzz::Input input(data, size);
    std::string_view rest = input.rest();
    while (true) {
        const auto decoded = decode_attach(rest);
        if (!decoded) return 0;
        if (!*decoded) {
            fuzz::require(rest.size() < kAttachHeader + kMaxAttachPayload, "a whole frame is not waited for");
            return 0;
        }
        const auto& [message, used] = **decoded;
        fuzz::require(used >= kAttachHeader && used <= rest.size(), "a message is made of bytes that came");
        std::string written;
        encode_attach(message, written);
        const auto again = decode_attach(written);
        fuzz::require(again.has_value() && again->has_value(), "a message that was read can be written");
        fuzz::require((*again)->message.index() == message.index() && (*again)->size == written.size(),
                      "a message reads again as the same");
        rest.remove_prefix(used);
    }
}
