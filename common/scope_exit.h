// Runs a callable when the scope ends, for resources that have no class of their own.
#pragma once

#include <utility>

namespace k8sgpu {

template <typename F>
class [[nodiscard]] ScopeExit {
  public:
    explicit ScopeExit(F f) : f_(std::move(f)) {}
    ScopeExit(const ScopeExit&) = delete;
    ScopeExit& operator=(const ScopeExit&) = delete;
    ~ScopeExit() { f_(); }

  private:
    F f_;
};

}  // namespace k8sgpu
