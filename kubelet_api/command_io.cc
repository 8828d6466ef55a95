#include "kubelet_api/command_io.h"

#include <algorithm>
#include <limits>

#include "common/json.h"

namespace k8sgpu::kubelet_api {

namespace {

constexpr std::size_t kMaxSizeObject = 1024;

bool same_letters(std::string_view a, std::string_view lower) {
    return std::equal(a.begin(), a.end(), lower.begin(), lower.end(), [](char x, char y) {
        return (x >= 'A' && x <= 'Z' ? static_cast<char>(x - 'A' + 'a') : x) == y;
    });
}

// Go decodes field names whatever their case.
std::uint16_t number_of(const Json& object, std::string_view name) {
    for (const auto& [key, value] : object.items()) {
        if (!same_letters(key, name) || !value.is_number_integer()) continue;
        const auto number = value.get<std::int64_t>();
        return static_cast<std::uint16_t>(
            std::clamp<std::int64_t>(number, 0, std::numeric_limits<std::uint16_t>::max()));
    }
    return 0;
}

}  // namespace

Result<std::optional<providers::TerminalSize>> SizeDecoder::feed(std::string_view bytes) {
    pending_ += bytes;
    std::optional<providers::TerminalSize> latest;
    // The objects are flat: the first closing brace ends one.
    for (auto end = pending_.find('}'); end != std::string::npos; end = pending_.find('}')) {
        auto object = parse_json(std::string_view(pending_).substr(0, end + 1), "terminal size");
        if (!object) return fail(Error{ErrorKind::Protocol, object.error().message, {}, {}});
        pending_.erase(0, end + 1);
        const providers::TerminalSize size{number_of(*object, "width"), number_of(*object, "height")};
        if (size.width != 0 || size.height != 0) latest = size;
    }
    if (pending_.size() > kMaxSizeObject) return fail(ErrorKind::Protocol, "terminal size: too long");
    return latest;
}

net::ByteStream* CommandIo::find(std::string_view type) const {
    const auto found = streams_.find(type);
    return found == streams_.end() ? nullptr : found->second.get();
}

Result<std::optional<providers::TerminalSize>> CommandIo::next_size(const CallContext& ctx) {
    net::ByteStream* resize = find("resize");
    if (resize == nullptr) return std::optional<providers::TerminalSize>();
    char buffer[4096];
    while (true) {
        auto got = resize->read(buffer, ctx);
        if (!got) return fail(got.error());
        if (*got == 0) return std::optional<providers::TerminalSize>();
        auto size = sizes_.feed({buffer, *got});
        if (!size || size->has_value()) return size;
    }
}

}  // namespace k8sgpu::kubelet_api
