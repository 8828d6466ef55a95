// Listener: a bound TCP socket that accepts until told to stop. Accepted descriptors are non-blocking and
// close-on-exec, with TCP_NODELAY and keep-alive set. accept() from one thread, cancel() from any.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "common/call_context.h"
#include "net/fd.h"
#include "net/wake.h"

namespace k8sgpu::net {

class Listener {
  public:
    // `address` is numeric, IPv4 or IPv6 without brackets; "" and "::" listen on every address of both
    // families where the host has IPv6. Port 0 lets the system choose: see port(). Invalid for an address
    // that is not numeric, Unavailable when the port is taken, Forbidden when it needs privileges.
    static Result<std::unique_ptr<Listener>> open(const std::string& address, std::uint16_t port,
                                                  int backlog = 512);

    // The next connection. Passing troubles (a client that left, no descriptors for a moment) are waited
    // out; an error is final: Cancelled, Timeout, Internal.
    Result<Fd> accept(const CallContext& ctx);

    void cancel() { waker_.cancel(); }
    std::uint16_t port() const { return port_; }
    int fd() const { return fd_.get(); }

  private:
    Listener(Fd fd, std::uint16_t port) : fd_(std::move(fd)), port_(port) {}

    Fd fd_;
    std::uint16_t port_;
    Waker waker_;
};

}  // namespace k8sgpu::net
