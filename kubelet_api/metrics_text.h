// Writes the Prometheus text format 0.0.4 with sample times, which prometheus-cpp's serializer cannot.
// Families appear in the order of their first mention, and only when they have a sample. Belongs to one
// thread.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/clock.h"

namespace k8sgpu::kubelet_api {

using Labels = std::vector<std::pair<std::string, std::string>>;

class MetricsText {
  public:
    // `type`: "counter" or "gauge"; what the first mention says of a family counts.
    void add(std::string_view name, std::string_view type, std::string_view help, const Labels& labels,
             double value, std::optional<WallTime> time = {});
    std::string text() const;

  private:
    struct Family {
        std::string name, type, help;
        std::string samples;
    };
    std::vector<Family> families_;
};

}  // namespace k8sgpu::kubelet_api
