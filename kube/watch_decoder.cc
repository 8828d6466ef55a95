#include "kube/watch_decoder.h"

#include <algorithm>

#include "common/log.h"

namespace k8sgpu::kube {
namespace {

std::optional<WatchEventType> type_of(const std::string& word) {
    if (word == "ADDED") return WatchEventType::Added;
    if (word == "MODIFIED") return WatchEventType::Modified;
    if (word == "DELETED") return WatchEventType::Deleted;
    if (word == "BOOKMARK") return WatchEventType::Bookmark;
    if (word == "ERROR") return WatchEventType::Error;
    return std::nullopt;
}

}  // namespace

Result<std::optional<WatchEvent>> WatchDecoder::next() {
    while (true) {
        const std::size_t newline = buffer_.find('\n', std::max(start_, scanned_));
        if (newline == std::string::npos) {
            buffer_.erase(0, start_);
            start_ = 0;
            scanned_ = buffer_.size();
            if (buffer_.size() > max_line_) {
                return fail(ErrorKind::Protocol, fmt::format("watch event larger than {} bytes", max_line_));
            }
            return std::optional<WatchEvent>();
        }
        const std::string_view line = std::string_view(buffer_).substr(start_, newline - start_);
        start_ = newline + 1;
        if (line.empty() || line == "\r") continue;
        auto json = parse_json(line, "watch event");
        if (!json) return fail(ErrorKind::Protocol, json.error().message);
        const auto type = type_of(string_at(*json, {"type"}));
        if (!type || !at(*json, {"object"}).is_object())
            return fail(ErrorKind::Protocol, "watch event without type or object");
        return std::optional(WatchEvent{*type, std::move((*json)["object"])});
    }
}

}  // namespace k8sgpu::kube
