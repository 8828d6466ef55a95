#include "providers/process/spawn.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <grp.h>
#include <linux/close_range.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "common/file.h"
#include "common/scope_exit.h"

namespace k8sgpu::providers::process {
namespace {

enum class Step : int { Session, Descriptors, Directory, User, Exec };

// What the child writes when it cannot become the command.
struct Failure {
    Step step;
    int error;
};

std::vector<char*> pointers(const std::vector<std::string>& strings) {
    std::vector<char*> out;
    for (const std::string& s : strings) out.push_back(const_cast<char*>(s.c_str()));
    out.push_back(nullptr);
    return out;
}

// Everything below runs between fork and exec: no allocation, no locks, no exceptions.
struct Child {
    const SpawnRequest& request;
    const char* file;
    char* const* argv;
    char* const* environment;
    int report;  // close-on-exec pipe
    pid_t parent;

    [[noreturn]] void die(Step step) const {
        const Failure failure{step, errno};
        [[maybe_unused]] const ssize_t put = ::write(report, &failure, sizeof failure);
        ::_exit(127);
    }

    void reset_signals() const {
        struct sigaction action {};
        action.sa_handler = SIG_DFL;
        for (int number = 1; number < NSIG; ++number) ::sigaction(number, &action, nullptr);
        sigset_t none;
        ::sigemptyset(&none);
        ::sigprocmask(SIG_SETMASK, &none, nullptr);
    }

    void set_descriptors(int null) const {
        const std::array<int, 3> wanted = {request.in, request.out, request.err};
        // The report pipe and the sources may sit on 0…2 when the caller has those closed: move them up
        // first.
        std::array<int, 3> safe{};
        for (std::size_t i = 0; i < 3; ++i) {
            safe[i] = ::fcntl(wanted[i] < 0 ? null : wanted[i], F_DUPFD_CLOEXEC, 3);
            if (safe[i] < 0) die(Step::Descriptors);
        }
        for (std::size_t i = 0; i < 3; ++i) {
            if (::dup2(safe[i], static_cast<int>(i)) < 0) die(Step::Descriptors);
        }
    }

    void set_user() const {
        const Identity& identity = request.identity;
        for (const int capability : identity.dropped_capabilities) {
            // EINVAL: a capability that this kernel does not have cannot be held either.
            if (::prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) != 0 && errno != EINVAL) die(Step::User);
        }
        if (identity.switch_user) {
            if (::setgroups(identity.groups.size(), identity.groups.data()) != 0) die(Step::User);
            if (::setresgid(identity.gid, identity.gid, identity.gid) != 0) die(Step::User);
            if (::setresuid(identity.uid, identity.uid, identity.uid) != 0) die(Step::User);
        }
        if (identity.no_new_privileges && ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) die(Step::User);
    }

    [[noreturn]] void run(int null) const {
        reset_signals();
        if (::setsid() < 0) die(Step::Session);
        set_descriptors(null);
        if (request.controlling_tty && ::ioctl(0, TIOCSCTTY, 0) != 0) die(Step::Session);
        // Descriptors of libraries that forgot close-on-exec must not reach the command.
        ::close_range(3, ~0U, CLOSE_RANGE_CLOEXEC);
        ::umask(022);
        if (::chdir(request.directory.c_str()) != 0) die(Step::Directory);
        set_user();
        // After the change of user, which clears it.
        if (request.die_with_parent) {
            if (::prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0) die(Step::Session);
            if (::getppid() != parent) ::_exit(127);
        }
        ::execve(file, argv, environment);
        die(Step::Exec);
    }
};

std::string_view path_of(const std::vector<std::string>& environment) {
    for (const std::string& entry : environment) {
        if (entry.rfind("PATH=", 0) == 0) return std::string_view(entry).substr(5);
    }
    return {};
}

Error explain(const Failure& failure, const SpawnRequest& request) {
    const std::string text = std::strerror(failure.error);
    ErrorKind kind = ErrorKind::Internal;
    if (failure.error == ENOENT) kind = ErrorKind::NotFound;
    if (failure.error == EACCES || failure.error == EPERM) kind = ErrorKind::Forbidden;
    switch (failure.step) {
        case Step::Directory:
            return {kind, fmt::format("working directory \"{}\": {}", request.directory, text), {}, {}};
        case Step::User:
            return {kind,
                    fmt::format("switching to user {} group {}: {}", request.identity.uid,
                                request.identity.gid, text),
                    {},
                    {}};
        case Step::Exec:
            return {kind, fmt::format("exec {}: {}", request.argv.front(), text), {}, {}};
        default:
            return {kind, fmt::format("preparing the process: {}", text), {}, {}};
    }
}

}  // namespace

Result<std::string> find_executable(const std::string& command, std::string_view path) {
    const auto runnable = [](const std::string& file) {
        struct stat info {};
        return ::stat(file.c_str(), &info) == 0 && S_ISREG(info.st_mode) && ::access(file.c_str(), X_OK) == 0;
    };
    if (command.find('/') != std::string::npos) return command;  // execve says what is wrong with it
    while (!command.empty() && !path.empty()) {
        const std::size_t colon = path.find(':');
        const std::string_view directory = path.substr(0, colon);
        // An empty entry would mean the working directory; runtimes ignore it, and so do we.
        const std::string file = fmt::format("{}/{}", directory, command);
        if (!directory.empty() && runnable(file)) return file;
        path.remove_prefix(colon == std::string_view::npos ? path.size() : colon + 1);
    }
    return fail(ErrorKind::NotFound,
                fmt::format("exec: \"{}\": executable file not found in $PATH", command));
}

Result<pid_t> spawn(const SpawnRequest& request) {
    if (request.argv.empty()) return fail(ErrorKind::Invalid, "no command");
    auto file = find_executable(request.argv.front(), path_of(request.environment));
    if (!file) return fail(file.error());
    const auto argv = pointers(request.argv);
    const auto environment = pointers(request.environment);

    const int null = ::open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null < 0) return fail(error_from_errno(errno, "/dev/null"));
    const ScopeExit close_null([null] { ::close(null); });
    std::array<int, 2> report{};
    if (::pipe2(report.data(), O_CLOEXEC) != 0) return fail(error_from_errno(errno, "pipe"));
    const ScopeExit close_report([&report] { ::close(report[0]); });
    // Above 2, so that the child's own descriptors never land on it.
    const int write_end = ::fcntl(report[1], F_DUPFD_CLOEXEC, 3);
    ::close(report[1]);
    if (write_end < 0) return fail(error_from_errno(errno, "pipe"));

    const Child child{request, file->c_str(), argv.data(), environment.data(), write_end, ::getpid()};
    // No handler of ours may run in the child before it has reset them.
    sigset_t all, before;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before);
    const pid_t pid = ::fork();
    if (pid == 0) child.run(null);
    const int fork_error = errno;
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    ::close(write_end);
    if (pid < 0) return fail(error_from_errno(fork_error, "fork"));

    Failure failure{};
    ssize_t got = 0;
    do {
        got = ::read(report[0], &failure, sizeof failure);
    } while (got < 0 && errno == EINTR);
    if (got == 0) return pid;
    while (::waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {
    }
    if (got != static_cast<ssize_t>(sizeof failure))
        return fail(ErrorKind::Internal, "starting the process failed");
    return fail(explain(failure, request));
}

}  // namespace k8sgpu::providers::process
