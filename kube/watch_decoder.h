// Cuts the body of a watch into events, however the bytes arrive: one JSON object a line. Bounded; a half
// line at the end of the stream is simply never an event. One thread.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "common/json.h"

namespace k8sgpu::kube {

struct WatchEvent {
    enum class Type { Added, Modified, Deleted, Bookmark, Error };
    Type type = Type::Added;
    Json object;  // for Error a Status
};

class WatchDecoder {
  public:
    // etcd's limit is 1.5 MiB an object; what the API server makes of it can be somewhat larger.
    explicit WatchDecoder(std::size_t max_line = 16U << 20U) : max_line_(max_line) {}

    // Appends the events that `bytes` complete. Protocol for a line that is too long or no event; the decoder
    // is of no further use then.
    Result<void> feed(std::string_view bytes, std::vector<WatchEvent>& events);

  private:
    const std::size_t max_line_;
    std::string partial_;
};

}  // namespace k8sgpu::kube
