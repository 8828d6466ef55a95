// The query of a request target, decoded as Go's url.ParseQuery does, and its boolean reading. Pure; any
// thread.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace k8sgpu::kubelet_api {

class Query {
  public:
    // Pairs that do not decode are left out and reported by malformed().
    explicit Query(std::string_view text);
    Query() = default;

    bool has(std::string_view key) const;
    std::optional<std::string> first(std::string_view key) const;
    std::vector<std::string> all(std::string_view key) const;
    bool malformed() const { return malformed_; }

    // As Kubernetes converts query values: absent, "0" and "false" are false, anything else is true.
    bool flag(std::string_view key) const;

  private:
    std::vector<std::pair<std::string, std::string>> pairs_;
    bool malformed_ = false;
};

// The decoded segments of a path: "/exec/ns/p%2Fq/" → {"exec", "ns", "p/q"}; one trailing slash is dropped.
// nullopt when it does not decode or contains "." or ".." as a segment.
std::optional<std::vector<std::string>> path_segments(std::string_view path);

}  // namespace k8sgpu::kubelet_api
