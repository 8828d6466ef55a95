// The lock that tells whether a pod's shim lives: an open-file-description lock, so it survives the fork that
// detaches the shim, can be tested without being taken, and ends with the process however that ends.
// Any thread.
#pragma once

#include <string>

#include "common/result.h"

namespace k8sgpu::providers::process {

// Owns the descriptor; gives the lock back when destroyed (and not before every copy by fork is closed too).
class PodLock {
  public:
    PodLock() = default;
    PodLock(PodLock&& other) noexcept : fd_(other.fd_) { other.fd_ = -1; }
    PodLock& operator=(PodLock&& other) noexcept;
    ~PodLock();

    // AlreadyExists when somebody else holds it.
    static Result<PodLock> take(const std::string& path);
    // Whether anybody holds it; false when the file is not there.
    static Result<bool> is_held(const std::string& path);

    int descriptor() const { return fd_; }

  private:
    explicit PodLock(int fd) : fd_(fd) {}
    int fd_ = -1;
};

}  // namespace k8sgpu::providers::process
