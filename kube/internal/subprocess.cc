#include "kube/internal/subprocess.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>

#include "common/file.h"
#include "common/scope_exit.h"
#include "net/fd.h"

namespace k8sgpu::kube {
namespace {

constexpr std::size_t kMaxErrorText = 4096;

using net::Fd;

struct Pipe {
    Fd read, write;
};

Result<Pipe> make_pipe() {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) return fail(error_from_errno(errno, "making a pipe"));
    Pipe pipe{Fd(ends[0]), Fd(ends[1])};
    ::fcntl(pipe.read.get(), F_SETFL, O_NONBLOCK);
    return pipe;
}

std::vector<std::string> environment_with(const std::vector<std::pair<std::string, std::string>>& added) {
    std::vector<std::string> merged;
    for (char** entry = environ; *entry != nullptr; ++entry) {
        const std::string_view text(*entry);
        const std::string_view name = text.substr(0, text.find('='));
        const auto same = [&](const auto& pair) { return pair.first == name; };
        if (std::none_of(added.begin(), added.end(), same)) merged.emplace_back(text);
    }
    for (const auto& [name, value] : added) merged.push_back(name + "=" + value);
    return merged;
}

std::vector<char*> pointers(std::vector<std::string>& texts) {
    std::vector<char*> result;
    result.reserve(texts.size() + 1);
    for (std::string& text : texts) result.push_back(text.data());
    result.push_back(nullptr);
    return result;
}

Result<pid_t> spawn(const Command& command, int out, int err) {
    std::vector<std::string> args = command.args;
    args.insert(args.begin(), command.program);
    std::vector<std::string> env = environment_with(command.env);

    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    const ScopeExit drop_actions([&] { posix_spawn_file_actions_destroy(&actions); });
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
    posix_spawn_file_actions_adddup2(&actions, err, STDERR_FILENO);
    posix_spawn_file_actions_addclosefrom_np(&actions, STDERR_FILENO + 1);

    posix_spawnattr_t attributes;
    posix_spawnattr_init(&attributes);
    const ScopeExit drop_attributes([&] { posix_spawnattr_destroy(&attributes); });
    sigset_t none, standard;
    sigemptyset(&none);
    sigemptyset(&standard);
    for (const int number : {SIGPIPE, SIGINT, SIGTERM, SIGHUP, SIGCHLD}) sigaddset(&standard, number);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setsigdefault(&attributes, &standard);
    posix_spawnattr_setpgroup(&attributes, 0);
    posix_spawnattr_setflags(&attributes,
                             POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);

    pid_t pid = 0;
    const int error = ::posix_spawnp(&pid, command.program.c_str(), &actions, &attributes,
                                     pointers(args).data(), pointers(env).data());
    if (error != 0) return fail(error_from_errno(error, "running " + command.program));
    return pid;
}

// Reads what is there; true at the end of the pipe.
template <typename Keep>
bool drain(const Fd& fd, Keep keep) {
    std::array<char, 16384> chunk;
    while (true) {
        const ssize_t got = ::read(fd.get(), chunk.data(), chunk.size());
        if (got > 0) {
            if (!keep(std::string_view(chunk.data(), static_cast<std::size_t>(got)))) return true;
        } else if (got == 0) {
            return true;
        } else if (errno != EINTR) {
            return errno != EAGAIN;
        }
    }
}

int poll_timeout(const CallContext& ctx) {
    if (!ctx.has_deadline()) return -1;
    return static_cast<int>(std::min<Duration::rep>(ctx.remaining().count() + 1, INT_MAX));
}

}  // namespace

Result<CommandResult> run_command(const Command& command, const CallContext& ctx) {
    if (auto alive = ctx.check(); !alive) return fail(alive.error());
    auto out = make_pipe();
    auto err = make_pipe();
    if (!out) return fail(out.error());
    if (!err) return fail(err.error());
    const Fd wake(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    const auto pid = spawn(command, out->write.get(), err->write.get());
    if (!pid) return fail(pid.error());
    out->write.reset();
    err->write.reset();

    bool reaped = false;
    const auto reap = [&](bool kill) {
        if (reaped) return siginfo_t{};
        if (kill) ::kill(-*pid, SIGKILL);
        siginfo_t info{};
        while (::waitid(P_PID, static_cast<id_t>(*pid), &info, WEXITED) != 0 && errno == EINTR) {
        }
        reaped = true;
        return info;
    };
    const ScopeExit never_leave_it([&] { reap(/*kill=*/true); });
    const Fd exited(static_cast<int>(::syscall(SYS_pidfd_open, *pid, 0)));
    if (exited.get() < 0) return fail(error_from_errno(errno, "watching " + command.program));
    const std::stop_callback on_stop(ctx.stop(), [&wake] { ::eventfd_write(wake.get(), 1); });

    CommandResult result;
    bool too_much = false;
    const auto keep_out = [&](std::string_view bytes) {
        too_much = result.out.size() + bytes.size() > command.max_output;
        if (!too_much) result.out += bytes;
        return !too_much;
    };
    const auto keep_err = [&](std::string_view bytes) {
        result.err += bytes;
        if (result.err.size() > kMaxErrorText) result.err.erase(0, result.err.size() - kMaxErrorText);
        return true;
    };
    // Ends with the program, not with its pipes: a grandchild in the background may hold those for ever.
    std::array<pollfd, 4> waits{{{exited.get(), POLLIN, 0},
                                 {wake.get(), POLLIN, 0},
                                 {out->read.get(), POLLIN, 0},
                                 {err->read.get(), POLLIN, 0}}};
    while (true) {
        if (::poll(waits.data(), waits.size(), poll_timeout(ctx)) < 0 && errno != EINTR)
            return fail(error_from_errno(errno, "waiting for " + command.program));
        if (waits[2].revents != 0 && drain(out->read, keep_out)) waits[2].fd = -1;
        if (waits[3].revents != 0 && drain(err->read, keep_err)) waits[3].fd = -1;
        if (too_much) {
            return fail(ErrorKind::Invalid, command.program + " wrote more than " +
                                                std::to_string(command.max_output) + " bytes");
        }
        if (waits[0].revents != 0) break;
        if (auto alive = ctx.check(); !alive) return fail(alive.error().with_context(command.program));
    }
    drain(out->read, keep_out);
    drain(err->read, keep_err);
    const siginfo_t info = reap(/*kill=*/false);
    result.exit_code = info.si_code == CLD_EXITED ? info.si_status : 128 + info.si_status;
    return result;
}

}  // namespace k8sgpu::kube
