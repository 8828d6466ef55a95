#include "providers/process/log_writer.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "common/encoding.h"
#include "common/file.h"

namespace k8sgpu::providers::process {

LogWriter::LogWriter(std::string path, std::int64_t max_bytes, int files)
    : path_(std::move(path)), max_bytes_(std::max<std::int64_t>(1, max_bytes)), files_(std::max(1, files)) {}

LogWriter::~LogWriter() {
    if (fd_ >= 0) ::close(fd_);
}

Result<void> LogWriter::open() {
    if (fd_ >= 0) ::close(fd_);
    fd_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd_ < 0) return fail(error_from_errno(errno, path_));
    struct stat info {};
    size_ = ::fstat(fd_, &info) == 0 ? info.st_size : 0;
    return {};
}

void LogWriter::append(LogStream stream, std::string_view bytes, WallTime now) {
    std::string& pending = pending_[static_cast<std::size_t>(stream)];
    while (!bytes.empty()) {
        const std::size_t room = kMaxLogLine - pending.size();
        // One byte more than fits: a line of exactly the limit is written whole.
        const std::size_t newline = bytes.substr(0, room + 1).find('\n');
        if (newline != std::string_view::npos) {
            pending.append(bytes, 0, newline);
            emit(stream, 'F', pending, now);
            pending.clear();
            bytes.remove_prefix(newline + 1);
        } else if (bytes.size() > room) {
            pending.append(bytes, 0, room);
            bytes.remove_prefix(room);
            emit(stream, 'P', pending, now);
            pending.clear();
        } else {
            pending.append(bytes);
            break;
        }
    }
    write_out();
}

void LogWriter::finish(LogStream stream, WallTime now) {
    std::string& pending = pending_[static_cast<std::size_t>(stream)];
    if (pending.empty()) return;
    emit(stream, 'P', pending, now);
    pending.clear();
    write_out();
}

void LogWriter::emit(LogStream stream, char tag, std::string_view text, WallTime now) {
    const std::string line = fmt::format("{} {} {} {}\n", rfc3339_nanos(now),
                                         stream == LogStream::Stdout ? "stdout" : "stderr", tag, text);
    const auto would_be = size_ + static_cast<std::int64_t>(out_.size() + line.size());
    if (would_be > max_bytes_ && size_ + static_cast<std::int64_t>(out_.size()) > 0) {
        write_out();
        rotate();
    }
    out_ += line;
}

void LogWriter::write_out() {
    if (out_.empty()) return;
    std::string_view rest = out_;
    int error = 0;
    while (fd_ >= 0 && !rest.empty()) {
        const ssize_t put = ::write(fd_, rest.data(), rest.size());
        if (put < 0 && errno == EINTR) continue;
        if (put < 0) error = errno;
        if (put < 0) break;
        rest.remove_prefix(static_cast<std::size_t>(put));
    }
    // Half a line would spoil the next one, too.
    if (!rest.empty() && rest.size() < out_.size() && ::ftruncate(fd_, size_) == 0) rest = out_;
    size_ += static_cast<std::int64_t>(out_.size() - rest.size());
    note_loss(rest.size(), error);
    out_.clear();
}

void LogWriter::note_loss(std::size_t bytes, int error) {
    if (bytes > 0 && !losing_) {
        lost_before_ = lost_;
        notice_ = fmt::format("output is not written to the log and is lost: {}",
                              error != 0 ? std::strerror(error) : "the file cannot be opened");
    }
    lost_ += static_cast<std::int64_t>(bytes);
    if (bytes == 0 && losing_) {
        notice_ = fmt::format("output is written to the log again; {} bytes were lost", lost_ - lost_before_);
    }
    losing_ = bytes > 0;
}

std::string LogWriter::take_notice() {
    return std::exchange(notice_, {});
}

void LogWriter::rotate() {
    for (int i = files_ - 1; i >= 1; --i) {
        const std::string from = i == 1 ? path_ : fmt::format("{}.{}", path_, i - 1);
        ::rename(from.c_str(), fmt::format("{}.{}", path_, i).c_str());
    }
    if (files_ == 1) ::unlink(path_.c_str());
    if (!open()) size_ = 0;
}

}  // namespace k8sgpu::providers::process
