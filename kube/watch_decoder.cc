#include "kube/watch_decoder.h"

#include <optional>

namespace k8sgpu::kube {
namespace {

std::optional<WatchEvent::Type> type_of(std::string_view text) {
    if (text == "ADDED") return WatchEvent::Type::Added;
    if (text == "MODIFIED") return WatchEvent::Type::Modified;
    if (text == "DELETED") return WatchEvent::Type::Deleted;
    if (text == "BOOKMARK") return WatchEvent::Type::Bookmark;
    if (text == "ERROR") return WatchEvent::Type::Error;
    return std::nullopt;
}

Result<WatchEvent> decode(std::string_view line) {
    auto json = parse_json(line, "a line of the watch");
    if (!json) return fail(ErrorKind::Protocol, json.error().message);
    const auto type = type_of(string_at(*json, {"type"}));
    if (!type || !at(*json, {"object"}).is_object())
        return fail(ErrorKind::Protocol, "a line of the watch is not an event");
    return WatchEvent{*type, std::move((*json)["object"])};
}

}  // namespace

Result<void> WatchDecoder::feed(std::string_view bytes, std::vector<WatchEvent>& events) {
    while (!bytes.empty()) {
        const std::size_t end = bytes.find('\n');
        const std::string_view piece = bytes.substr(0, end);
        if (partial_.size() + piece.size() > max_line_) {
            return fail(ErrorKind::Protocol,
                        "an event of the watch is larger than " + std::to_string(max_line_) + " bytes");
        }
        if (end == std::string_view::npos) {
            partial_ += piece;
            return {};
        }
        bytes.remove_prefix(end + 1);
        if (partial_.empty() && piece.empty()) continue;
        // Most lines arrive whole; only the others are copied.
        auto event = partial_.empty() ? decode(piece) : decode(partial_ += piece);
        partial_.clear();
        if (!event) return fail(event.error());
        events.push_back(std::move(*event));
    }
    return {};
}

}  // namespace k8sgpu::kube
