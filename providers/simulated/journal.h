// The pods of the simulated backend in one file, so that a restart of the agent takes them up again and never
// starts one a second time. Replaced whole and durably (common/file.h) before an order is answered. Written
// under the provider's lock; small by nature: names, times and annotations of the pods that exist.
#pragma once

#include <string>
#include <vector>

#include "providers/simulated/backend.h"

namespace k8sgpu::providers::simulated {

class Journal {
  public:
    explicit Journal(std::string path) : path_(std::move(path)) {}

    // Nothing yet is an empty list. Invalid when the file is not ours: the caller must not go on, or it would
    // forget what runs.
    Result<std::vector<SimulatedBackend::Facts>> load() const;
    Result<void> store(const std::vector<SimulatedBackend::Facts>& pods) const;

  private:
    std::string path_;
};

}  // namespace k8sgpu::providers::simulated
