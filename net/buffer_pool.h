// Spare room that several buffers share. A stream whose reader is slow may run over its own buffer into the
// spare room, so that the other streams of its session still move; when that is used up too, the session
// stops reading. So memory stays bounded whatever peers do.
//
// Pools may nest: what a child takes counts in its parent as well. Any thread; whoever takes gives back.
#pragma once

#include <atomic>
#include <cstddef>
#include <memory>

namespace k8sgpu::net {

class BufferPool {
  public:
    explicit BufferPool(std::size_t limit, std::shared_ptr<BufferPool> parent = nullptr)
        : limit_(limit), parent_(std::move(parent)) {}

    // All of `bytes` or nothing.
    bool take(std::size_t bytes) {
        if (used_.fetch_add(bytes) + bytes <= limit_ && (!parent_ || parent_->take(bytes))) return true;
        used_.fetch_sub(bytes);
        return false;
    }
    void give(std::size_t bytes) {
        used_.fetch_sub(bytes);
        if (parent_) parent_->give(bytes);
    }
    std::size_t used() const { return used_.load(); }

  private:
    const std::size_t limit_;
    const std::shared_ptr<BufferPool> parent_;
    std::atomic<std::size_t> used_{0};
};

}  // namespace k8sgpu::net
