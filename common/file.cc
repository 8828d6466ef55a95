#include "common/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

#include "common/scope_exit.h"

namespace k8sgpu {
namespace {

enum class Trust { Any, OwnerOnlyWrites };

Result<void> check_trust(const struct stat& info, const std::string& path) {
    if ((info.st_mode & (S_IWGRP | S_IWOTH)) != 0) {
        return fail(ErrorKind::Invalid,
                    path + ": others may write this file (mode " +
                        std::to_string((info.st_mode >> 6U & 7U) * 100 + (info.st_mode >> 3U & 7U) * 10 +
                                       (info.st_mode & 7U)) +
                        "); run: chmod go-w " + path);
    }
    if (info.st_uid != 0 && info.st_uid != geteuid()) {
        return fail(ErrorKind::Invalid, path + ": belongs to user id " + std::to_string(info.st_uid) +
                                            "; it must belong to root or to the user that runs k8sgpu");
    }
    return {};
}

Result<std::string> read(const std::string& path, std::size_t max_bytes, Trust trust) {
    const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return fail(error_from_errno(errno, path));
    const ScopeExit close_fd([fd] { ::close(fd); });
    struct stat info {};
    if (::fstat(fd, &info) != 0) return fail(error_from_errno(errno, path));
    if (!S_ISREG(info.st_mode)) return fail(ErrorKind::Invalid, path + ": not a regular file");
    if (trust == Trust::OwnerOnlyWrites) {
        if (auto trusted = check_trust(info, path); !trusted) return fail(trusted.error());
    }
    std::string content;
    char chunk[16384];
    while (true) {
        const ssize_t got = ::read(fd, chunk, sizeof chunk);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return fail(error_from_errno(errno, path));
        if (got == 0) return content;
        content.append(chunk, static_cast<std::size_t>(got));
        if (content.size() > max_bytes) {
            return fail(ErrorKind::Invalid, path + ": larger than " + std::to_string(max_bytes) + " bytes");
        }
    }
}

}  // namespace

Error error_from_errno(int error_number, std::string_view doing) {
    ErrorKind kind = ErrorKind::Internal;
    if (error_number == ENOENT || error_number == ENOTDIR) kind = ErrorKind::NotFound;
    if (error_number == EACCES || error_number == EPERM || error_number == EROFS) kind = ErrorKind::Forbidden;
    char buffer[128];
    return {kind, std::string(doing) + ": " + strerror_r(error_number, buffer, sizeof buffer), {}, {}};
}

Result<std::string> read_file(const std::string& path, std::size_t max_bytes) {
    return read(path, max_bytes, Trust::Any);
}

Result<std::string> read_trusted_file(const std::string& path, std::size_t max_bytes) {
    return read(path, max_bytes, Trust::OwnerOnlyWrites);
}

Result<void> replace_file(const std::string& path, std::string_view content, mode_t mode) {
    std::string temporary = path + ".XXXXXX";
    const int fd = ::mkostemp(temporary.data(), O_CLOEXEC);
    if (fd < 0) return fail(error_from_errno(errno, path));
    int failed = ::fchmod(fd, mode) == 0 ? 0 : errno;
    while (failed == 0 && !content.empty()) {
        const ssize_t put = ::write(fd, content.data(), content.size());
        if (put < 0 && errno == EINTR) continue;
        if (put < 0) {
            failed = errno;
        } else {
            content.remove_prefix(static_cast<std::size_t>(put));
        }
    }
    if (failed == 0 && ::fsync(fd) != 0) failed = errno;
    ::close(fd);
    if (failed == 0 && ::rename(temporary.c_str(), path.c_str()) != 0) failed = errno;
    if (failed != 0) {
        ::unlink(temporary.c_str());
        return fail(error_from_errno(failed, path));
    }
    return {};
}

Result<void> ensure_directory(const std::string& path, mode_t mode) {
    std::error_code error;
    const bool made = std::filesystem::create_directories(path, error);
    if (error) return fail(error_from_errno(error.value(), path));
    if (made && ::chmod(path.c_str(), mode) != 0) return fail(error_from_errno(errno, path));
    return {};
}

}  // namespace k8sgpu
