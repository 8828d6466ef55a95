// Terminals (pty) for processes. Any thread.
#pragma once

#include <cstdint>

#include "common/result.h"
#include "net/fd.h"

namespace k8sgpu::providers::process {

struct Terminal {
    net::Fd ours;    // non-blocking; EIO on reading says that its last process has left
    net::Fd theirs;  // standard streams of the process that gets it
};

Result<Terminal> open_terminal();
// Programs on it hear of it by SIGWINCH.
void set_terminal_size(int ours, std::uint16_t columns, std::uint16_t rows);

}  // namespace k8sgpu::providers::process
