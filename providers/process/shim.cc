#include "providers/process/shim.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <string_view>

#include "common/file.h"
#include "providers/process/lock.h"
#include "providers/process/process_table.h"
#include "providers/process/shim_loop.h"

namespace k8sgpu::providers::process {
namespace {

int give_up(ShimStart status, const std::string& text) {
    fmt::print(stderr, "{}\n", text);
    std::fflush(stderr);
    return static_cast<int>(status);
}

// Durable before any container runs: from then on the pod is never started again.
Result<void> announce(const PodPaths& paths) {
    const auto self = read_process(::getpid());
    auto boot = boot_id();
    if (!boot) return fail(boot.error());
    const Json json = {{"pid", ::getpid()}, {"startTime", self ? self->start_time : 0}, {"bootId", *boot}};
    if (auto written = replace_file(paths.shim(), dump_json(json), 0600); !written) return written;
    return sync_directory(paths.dir);
}

// Standard streams that belong to nobody else; complaints go to shim.log.
void detach(const PodPaths& paths) {
    const int null = ::open("/dev/null", O_RDWR | O_CLOEXEC);
    const int complaints = ::open(paths.shim_log().c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    ::dup2(null, 0);
    ::dup2(null, 1);
    ::dup2(complaints >= 0 ? complaints : null, 2);
    if (null > 2) ::close(null);
    if (complaints > 2) ::close(complaints);
}

// The second half: never returns.
[[noreturn]] void supervise(const PodPaths& paths, PodIntent intent, int ready) {
    ::setsid();
    ::umask(022);
    ::prctl(PR_SET_NAME, "k8sgpu-shim", 0, 0, 0);
    ::prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    if (::chdir("/") != 0) ::_exit(give_up(ShimStart::Failed, "chdir: /"));
    {
        ShimLoop loop(paths, std::move(intent));
        auto done = loop.prepare();
        // Last of all that can fail: after it the pod counts as started.
        if (done) done = announce(paths);
        if (!done) ::_exit(give_up(ShimStart::Failed, done.error().message));
        detach(paths);
        [[maybe_unused]] const ssize_t put = ::write(ready, "", 1);
        ::close(ready);
        loop.run();
    }
    ::_exit(0);
}

}  // namespace

int shim_main(int argc, char** argv) {
    if (argc != 3 || std::string_view(argv[1]) != "--dir") {
        return give_up(ShimStart::BadDirectory,
                       "usage: process-shim --dir <pod directory>; started by the agent only");
    }
    const PodPaths paths{argv[2]};
    auto intent = read_intent(paths.intent());
    if (!intent) return give_up(ShimStart::BadDirectory, intent.error().message);

    auto lock = PodLock::take(paths.lock());
    if (!lock) {
        const bool held = lock.error().kind == ErrorKind::AlreadyExists;
        return give_up(held ? ShimStart::AlreadyRuns : ShimStart::Failed, lock.error().message);
    }
    if (::access(paths.shim().c_str(), F_OK) == 0) {
        return give_up(ShimStart::AlreadyRan, paths.shim() + ": this pod was started before");
    }
    std::array<int, 2> ready{};
    if (::pipe2(ready.data(), O_CLOEXEC) != 0) return give_up(ShimStart::Failed, "pipe");
    const pid_t second = ::fork();
    if (second < 0) return give_up(ShimStart::Failed, error_from_errno(errno, "fork").message);
    if (second == 0) {
        ::close(ready[0]);
        supervise(paths, std::move(*intent), ready[1]);
    }
    ::close(ready[1]);
    char byte = 0;
    ssize_t got = 0;
    do {
        got = ::read(ready[0], &byte, 1);
    } while (got < 0 && errno == EINTR);
    ::_exit(static_cast<int>(got == 1 ? ShimStart::Ready : ShimStart::Failed));
}

}  // namespace k8sgpu::providers::process
