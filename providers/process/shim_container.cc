#include "providers/process/shim_container.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "common/file.h"
#include "common/scope_exit.h"
#include "providers/process/spawn.h"

namespace k8sgpu::providers::process {
namespace {

constexpr std::size_t kFallbackBytes = 2048;
constexpr int kFallbackLines = 80;
constexpr int kLastReads = 64;  // more than any pipe holds; a process that escaped may still write
constexpr std::size_t kMessageBytes = 4096, kPodMessageBytes = 12288;

// The logs of this run and of the one before are kept, as the kubelet does.
void remove_old_logs(const PodPaths& paths, const PodIntent& intent, const std::string& container, int run) {
    if (run < 2) return;
    const std::string old = paths.log(container, run - 2);
    ::unlink(old.c_str());
    for (int i = 1; i < intent.limits.log_files; ++i) ::unlink(fmt::format("{}.{}", old, i).c_str());
}

// Empty, and writable by the container's user alone.
Result<void> make_message_file(const std::string& path, const Identity& identity) {
    ::unlink(path.c_str());
    const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) return fail(error_from_errno(errno, path));
    const ScopeExit close_fd([fd] { ::close(fd); });
    if (identity.switch_user && ::fchown(fd, identity.uid, identity.gid) != 0) {
        return fail(error_from_errno(errno, path));
    }
    return {};
}

}  // namespace

ShimContainer::ShimContainer(const PodPaths& paths, const PodIntent& intent, std::size_t index, int run)
    : paths_(paths),
      intent_(intent),
      container_(intent.containers[index]),
      index_(index),
      run_(run),
      log_(paths.log(container_.name, run), intent.limits.log_bytes, intent.limits.log_files) {}

ShimContainer::~ShimContainer() {
    for (const int fd : fds_) {
        if (fd >= 0) ::close(fd);
    }
}

Result<std::unique_ptr<ShimContainer>> ShimContainer::start(const PodPaths& paths, const PodIntent& intent,
                                                            std::size_t index, int run) {
    std::unique_ptr<ShimContainer> self(new ShimContainer(paths, intent, index, run));
    const ContainerIntent& container = self->container_;
    if (auto made = ensure_directory(paths.container_logs(container.name)); !made) return fail(made.error());
    remove_old_logs(paths, intent, container.name, run);
    if (auto opened = self->log_.open(); !opened) return fail(opened.error());
    if (auto made = make_message_file(paths.termination(container.name), container.identity); !made) {
        return fail(made.error());
    }
    std::array<int, 2> out{}, err{};
    if (::pipe2(out.data(), O_CLOEXEC) != 0) return fail(error_from_errno(errno, "pipe"));
    self->fds_[0] = out[0];
    const ScopeExit close_out([&] { ::close(out[1]); });
    if (::pipe2(err.data(), O_CLOEXEC) != 0) return fail(error_from_errno(errno, "pipe"));
    self->fds_[1] = err[0];
    const ScopeExit close_err([&] { ::close(err[1]); });
    for (const int fd : self->fds_) ::fcntl(fd, F_SETFL, O_NONBLOCK);

    SpawnRequest request;
    request.argv = container.argv;
    request.environment = container.environment;
    request.directory = container.directory.empty() ? paths.work() : container.directory;
    request.identity = container.identity;
    request.out = out[1];
    request.err = err[1];
    request.die_with_parent = true;
    auto pid = spawn(request);
    if (!pid) return fail(pid.error());
    self->pid_ = *pid;
    if (const auto info = read_process(*pid)) self->start_time_ = info->start_time;
    return self;
}

void ShimContainer::read_output(LogStream stream, WallTime now) {
    int& fd = fds_[static_cast<std::size_t>(stream)];
    std::array<char, 65536> chunk;
    const ssize_t got = fd < 0 ? 0 : ::read(fd, chunk.data(), chunk.size());
    if (got > 0) {
        const std::string_view bytes(chunk.data(), static_cast<std::size_t>(got));
        log_.append(stream, bytes, now);
        last_output_.append(bytes.substr(bytes.size() - std::min(bytes.size(), kFallbackBytes)));
        if (last_output_.size() > kFallbackBytes) last_output_.erase(0, last_output_.size() - kFallbackBytes);
        return;
    }
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (fd >= 0) ::close(fd);
    fd = -1;
    log_.finish(stream, now);
}

void ShimContainer::terminate() const {
    ::kill(-pid_, SIGTERM);
}

std::set<pid_t> ShimContainer::members(const ProcessTable& table) const {
    std::set<pid_t> found;
    for (const pid_t pid : descendants(table, ::getpid())) {
        const ProcessInfo& info = table.at(pid);
        // While one process of a session lives, its number is not given to anybody else.
        if (info.session == pid_ && info.state != 'Z') found.insert(pid);
    }
    return found;
}

ShimContainer::End ShimContainer::finish(WallTime now) {
    for (const LogStream stream : {LogStream::Stdout, LogStream::Stderr}) {
        // Nobody writes any more: whatever is left can be read at once.
        for (int waiting = 1, reads = 0; output(stream) >= 0 && waiting > 0 && reads < kLastReads; ++reads) {
            if (::ioctl(output(stream), FIONREAD, &waiting) == 0 && waiting > 0) read_output(stream, now);
        }
        int& fd = fds_[static_cast<std::size_t>(stream)];
        if (fd >= 0) ::close(fd);
        fd = -1;
        log_.finish(stream, now);
    }
    End end{0, "Completed", ""};
    if (WIFEXITED(*wait_status_)) {
        end.exit_code = WEXITSTATUS(*wait_status_);
    } else if (WIFSIGNALED(*wait_status_)) {
        end.exit_code = 128 + WTERMSIG(*wait_status_);
    }
    if (end.exit_code != 0) end.reason = "Error";
    end.message = termination_message(end.exit_code);
    return end;
}

std::string ShimContainer::termination_message(int exit_code) const {
    const std::size_t limit =
        std::min(kMessageBytes, kPodMessageBytes / std::max<std::size_t>(1, intent_.containers.size()));
    std::string message;
    // The container may have put anything there: only a regular file counts, and only its beginning.
    const int fd =
        ::open(paths_.termination(container_.name).c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW);
    struct stat info {};
    if (fd >= 0 && ::fstat(fd, &info) == 0 && S_ISREG(info.st_mode)) {
        message.resize(limit);
        const ssize_t got = ::pread(fd, message.data(), limit, 0);
        message.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
    }
    if (fd >= 0) ::close(fd);
    if (message.empty() && exit_code != 0 && container_.message_from_log) message = last_lines(last_output_);
    return message;
}

std::string last_lines(const std::string& output) {
    std::size_t begin = output.size() - std::min(output.size(), kFallbackBytes);
    int lines = 0;
    for (std::size_t i = output.size(); i > begin; --i) {
        // A newline at the very end closes the last line and opens none.
        if (output[i - 1] == '\n' && i != output.size() && ++lines == kFallbackLines) begin = i;
    }
    return output.substr(begin);
}

}  // namespace k8sgpu::providers::process
