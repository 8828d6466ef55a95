#include "providers/process/shim_container.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "common/file.h"
#include "common/scope_exit.h"
#include "providers/process/spawn.h"
#include "providers/process/terminal.h"

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

ShimContainer::ShimContainer(const PodPaths& paths, const PodIntent& intent, std::size_t index, int run,
                             Listener listener)
    : paths_(paths),
      intent_(intent),
      container_(intent.containers[index]),
      index_(index),
      run_(run),
      log_(paths.log(container_.name, run), intent.limits.log_bytes, intent.limits.log_files),
      listener_(std::move(listener)) {}

// Ours are kept and do not block.
Result<ShimContainer::Streams> ShimContainer::open_streams() {
    Streams streams;
    if (container_.tty) {
        auto terminal = open_terminal();
        if (!terminal) return fail(terminal.error());
        fds_[0] = std::move(terminal->ours);
        if (container_.in) in_ = net::Fd(::fcntl(fds_[0].get(), F_DUPFD_CLOEXEC, 3));
        // What the process opens by its name must be its own, too.
        const Identity& user = container_.identity;
        if (user.switch_user && ::fchown(terminal->theirs.get(), user.uid, static_cast<gid_t>(-1)) != 0) {
            return fail(error_from_errno(errno, "the terminal's owner"));
        }
        streams.in = std::move(terminal->theirs);
        return streams;
    }
    const auto make = [](net::Fd& read_end, net::Fd& write_end) -> Result<void> {
        std::array<int, 2> fds{};
        if (::pipe2(fds.data(), O_CLOEXEC) != 0) return fail(error_from_errno(errno, "pipe"));
        read_end = net::Fd(fds[0]);
        write_end = net::Fd(fds[1]);
        return {};
    };
    if (auto made = make(fds_[0], streams.out); !made) return fail(made.error());
    if (auto made = make(fds_[1], streams.err); !made) return fail(made.error());
    if (container_.in) {
        if (auto made = make(streams.in, in_); !made) return fail(made.error());
        ::fcntl(in_.get(), F_SETFL, O_NONBLOCK);
    }
    for (const net::Fd& fd : fds_) ::fcntl(fd.get(), F_SETFL, O_NONBLOCK);
    return streams;
}

Result<std::unique_ptr<ShimContainer>> ShimContainer::start(const PodPaths& paths, const PodIntent& intent,
                                                            std::size_t index, int run, Listener listener) {
    std::unique_ptr<ShimContainer> self(new ShimContainer(paths, intent, index, run, std::move(listener)));
    const ContainerIntent& container = self->container_;
    if (auto made = ensure_directory(paths.container_logs(container.name)); !made) return fail(made.error());
    remove_old_logs(paths, intent, container.name, run);
    if (auto opened = self->log_.open(); !opened) return fail(opened.error());
    if (auto made = make_message_file(paths.termination(container.name), container.identity); !made) {
        return fail(made.error());
    }
    const auto streams = self->open_streams();
    if (!streams) return fail(streams.error());

    SpawnRequest request = self->command();
    request.argv = container.argv;
    request.in = streams->in.get();
    request.out = container.tty ? streams->in.get() : streams->out.get();
    request.err = container.tty ? streams->in.get() : streams->err.get();
    request.controlling_tty = container.tty;
    request.die_with_parent = true;
    if (const auto shim = read_process(::getpid())) self->reaped_before_ = shim->child_cpu_ticks;
    auto pid = spawn(request);
    if (!pid) return fail(pid.error());
    self->pid_ = *pid;
    if (const auto info = read_process(*pid)) self->start_time_ = info->start_time;
    return self;
}

bool ShimContainer::read_output(LogStream stream, WallTime now) {
    net::Fd& fd = fds_[static_cast<std::size_t>(stream)];
    std::array<char, 65536> chunk;
    const ssize_t got = fd.valid() ? ::read(fd.get(), chunk.data(), chunk.size()) : 0;
    if (got > 0) {
        const std::string_view bytes(chunk.data(), static_cast<std::size_t>(got));
        log_.append(stream, bytes, now);
        last_output_.append(bytes.substr(bytes.size() - std::min(bytes.size(), kFallbackBytes)));
        if (last_output_.size() > kFallbackBytes) last_output_.erase(0, last_output_.size() - kFallbackBytes);
        listener_(*this, stream, bytes);
        return true;
    }
    if (got < 0 && errno == EINTR) return true;
    if (got < 0 && errno == EAGAIN) return false;
    // EIO is how a terminal says that its last process has left.
    fd.reset();
    log_.finish(stream, now);
    return false;
}

void ShimContainer::resize(std::uint16_t columns, std::uint16_t rows) const {
    if (tty() && fds_[0].valid()) set_terminal_size(fds_[0].get(), columns, rows);
}

std::optional<PodEvent> ShimContainer::take_log_event() {
    const std::string notice = log_.take_notice();
    if (notice.empty()) return std::nullopt;
    return PodEvent{"Warning", "LogLost", fmt::format("Container {}: {}", container_.name, notice)};
}

SpawnRequest ShimContainer::command() const {
    SpawnRequest request;
    request.environment = container_.environment;
    request.directory = container_.directory.empty() ? paths_.work() : container_.directory;
    request.identity = container_.identity;
    return request;
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
        for (int reads = 0; reads < kLastReads && read_output(stream, now); ++reads) {
        }
        fds_[static_cast<std::size_t>(stream)].reset();
        log_.finish(stream, now);
    }
    in_.reset();
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
