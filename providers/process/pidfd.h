// Descriptors of processes, straight from the kernel: glibc 2.36 declares its wrappers without C linkage, so
// C++ programs cannot link them. Any thread.
#pragma once

#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

namespace k8sgpu::providers::process {

// A descriptor that is readable once the process has ended; -1 and errno. Closed on exec.
inline int open_pidfd(pid_t pid) {
    return static_cast<int>(::syscall(SYS_pidfd_open, pid, 0));
}
inline int signal_pidfd(int fd, int signal_number) {
    return static_cast<int>(::syscall(SYS_pidfd_send_signal, fd, signal_number, nullptr, 0));
}

}  // namespace k8sgpu::providers::process
