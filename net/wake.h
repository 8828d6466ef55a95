// Waker: one thread's way to wait for a descriptor and still hear stop tokens, deadlines and cancel().
//
// An eventfd is polled together with the descriptor; a stop_callback or cancel() signals it. One thread waits
// at a time (a stream has one Waker for its reader and one for its writer); cancel() comes from any thread
// and is final.
#pragma once

#include <atomic>

#include "common/call_context.h"
#include "net/fd.h"

namespace k8sgpu::net {

class Waker {
  public:
    Waker();

    // Returns once `fd` has one of the poll(2) `events` or an error condition. Errors: Cancelled (token or
    // cancel()), Timeout, Internal (no descriptor for the eventfd, or poll failed).
    Result<void> wait(int fd, short events, const CallContext& ctx);

    void cancel();
    bool cancelled() const { return cancelled_.load(); }

  private:
    void signal() const;
    void drain() const;

    Fd event_;
    std::atomic<bool> cancelled_{false};
};

Result<void> set_nonblocking(int fd);

}  // namespace k8sgpu::net
