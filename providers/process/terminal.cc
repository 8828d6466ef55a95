#include "providers/process/terminal.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/ioctl.h>

#include <array>
#include <cerrno>

#include "common/file.h"

namespace k8sgpu::providers::process {

Result<Terminal> open_terminal() {
    Terminal terminal{net::Fd(::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK)), net::Fd()};
    std::array<char, 64> name{};
    if (!terminal.ours.valid() || ::grantpt(terminal.ours.get()) != 0 ||
        ::unlockpt(terminal.ours.get()) != 0 ||
        ::ptsname_r(terminal.ours.get(), name.data(), name.size()) != 0) {
        return fail(error_from_errno(errno, "opening a terminal"));
    }
    terminal.theirs = net::Fd(::open(name.data(), O_RDWR | O_NOCTTY | O_CLOEXEC));
    if (!terminal.theirs.valid()) return fail(error_from_errno(errno, name.data()));
    return terminal;
}

void set_terminal_size(int ours, std::uint16_t columns, std::uint16_t rows) {
    struct winsize window {};
    window.ws_col = columns;
    window.ws_row = rows;
    ::ioctl(ours, TIOCSWINSZ, &window);
}

}  // namespace k8sgpu::providers::process
