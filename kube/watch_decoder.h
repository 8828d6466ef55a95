// Cuts the body of a watch into events: one JSON object per line, in chunks of any size. Bounded: a line
// beyond the cap is an error, never a growing buffer. Pure; belongs to one watch.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "common/json.h"

namespace k8sgpu::kube {

enum class WatchEventType { Added, Modified, Deleted, Bookmark, Error };

struct WatchEvent {
    WatchEventType type;
    Json object;  // a Status for Error
};

class WatchDecoder {
  public:
    // 8 MiB: etcd refuses objects beyond 1.5 MiB, JSON may be several times their stored form.
    explicit WatchDecoder(std::size_t max_line = 8U << 20U) : max_line_(max_line) {}

    void add(std::string_view chunk) { buffer_.append(chunk); }

    // The next complete event; nullopt until more bytes come. Protocol for what is no watch event.
    Result<std::optional<WatchEvent>> next();

  private:
    std::size_t max_line_;
    std::string buffer_;
    std::size_t start_ = 0;    // of the line being read
    std::size_t scanned_ = 0;  // no newline before this
};

}  // namespace k8sgpu::kube
