#include "providers/process/lock.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "common/file.h"
#include "common/scope_exit.h"

namespace k8sgpu::providers::process {
namespace {

struct flock whole_file() {
    struct flock range {};
    range.l_type = F_WRLCK;
    range.l_whence = SEEK_SET;
    return range;
}

}  // namespace

PodLock& PodLock::operator=(PodLock&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
}

PodLock::~PodLock() {
    if (fd_ >= 0) ::close(fd_);
}

Result<PodLock> PodLock::take(const std::string& path) {
    const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) return fail(error_from_errno(errno, path));
    PodLock lock(fd);
    struct flock range = whole_file();
    if (::fcntl(fd, F_OFD_SETLK, &range) == 0) return lock;
    if (errno == EAGAIN || errno == EACCES)
        return fail(ErrorKind::AlreadyExists, path + ": held by another process");
    return fail(error_from_errno(errno, path));
}

Result<bool> PodLock::is_held(const std::string& path) {
    const int fd = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT) return false;
    if (fd < 0) return fail(error_from_errno(errno, path));
    const ScopeExit close_fd([fd] { ::close(fd); });
    struct flock range = whole_file();
    if (::fcntl(fd, F_OFD_GETLK, &range) != 0) return fail(error_from_errno(errno, path));
    return range.l_type != F_UNLCK;
}

}  // namespace k8sgpu::providers::process
