#include "net/wake.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>

#include <cerrno>
#include <cstdint>
#include <limits>

#include "common/file.h"

namespace k8sgpu::net {

namespace {

int poll_timeout(const CallContext& ctx) {
    if (!ctx.has_deadline()) return -1;
    // One more, because remaining() rounds down and a zero would spin through the last millisecond.
    const auto ms = ctx.remaining().count() + 1;
    return ms > std::numeric_limits<int>::max() ? std::numeric_limits<int>::max() : static_cast<int>(ms);
}

}  // namespace

Waker::Waker() : event_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}

void Waker::signal() const {
    const std::uint64_t one = 1;
    // Fails only when the counter is full, and then the poller is awake anyway.
    [[maybe_unused]] const auto written = ::write(event_.get(), &one, sizeof one);
}

void Waker::drain() const {
    std::uint64_t count = 0;
    [[maybe_unused]] const auto got = ::read(event_.get(), &count, sizeof count);
}

void Waker::cancel() {
    cancelled_.store(true);
    signal();
}

Result<void> Waker::wait(int fd, short events, const CallContext& ctx) {
    if (!event_.valid()) return fail(ErrorKind::Internal, "no file descriptor left to wait with");
    const std::stop_callback on_stop(ctx.stop(), [this] { signal(); });
    while (true) {
        if (cancelled()) return fail(ErrorKind::Cancelled, "stream cancelled");
        if (auto ok = ctx.check(); !ok) return ok;
        pollfd fds[2] = {{fd, events, 0}, {event_.get(), POLLIN, 0}};
        const int ready = ::poll(fds, 2, poll_timeout(ctx));
        if (ready < 0 && errno != EINTR) return fail(error_from_errno(errno, "waiting for a socket"));
        // A signal may be left over from an earlier caller's token; the loop's head decides whether it
        // counts.
        if (ready > 0 && fds[1].revents != 0 && !cancelled()) drain();
        if (ready > 0 && fds[0].revents != 0 && !cancelled()) return {};
    }
}

Result<void> set_nonblocking(int fd) {
    const int flags = ::fcntl(fd, F_GETFL);
    if (flags < 0 || ::fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0) {
        return fail(error_from_errno(errno, "making a descriptor non-blocking"));
    }
    return {};
}

}  // namespace k8sgpu::net
