// One attempt of a probe or hook, in a child of the shim that blocks in its stead: the shim polls a pipe for
// the outcome and goes on meanwhile. Belongs to the shim's thread, which must be its process's only one.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>

#include "common/clock.h"
#include "net/fd.h"
#include "providers/process/handler.h"
#include "providers/process/spawn.h"

namespace k8sgpu::providers::process {

enum class HandlerOutcome : char {
    Success = 'S',
    Failure = 'F',
    Error = 'E'
};  // Error: it could not be tried

struct HandlerResult {
    HandlerOutcome outcome = HandlerOutcome::Error;
    std::string text;  // what the command printed, or what went wrong
};

// Blocks until it is known, at most `timeout`. `command`: environment, directory and user of exec.
HandlerResult run_handler(const Handler& handler, const SpawnRequest& command, Duration timeout);

class HandlerChild {
  public:
    // Errors: Internal, no process or no descriptors.
    static Result<HandlerChild> start(const Handler& handler, const SpawnRequest& command, Duration timeout);
    ~HandlerChild();  // ends the attempt if it is still under way
    HandlerChild(HandlerChild&& other) noexcept;
    HandlerChild& operator=(HandlerChild&& other) noexcept;

    int fd() const { return fd_.get(); }  // readable when there is something for read()
    // The outcome, once it is there.
    std::optional<HandlerResult> read();

  private:
    HandlerChild(net::Fd fd, pid_t pid) : fd_(std::move(fd)), pid_(pid) {}

    net::Fd fd_;
    pid_t pid_ = -1;
    std::string received_;
};

}  // namespace k8sgpu::providers::process
