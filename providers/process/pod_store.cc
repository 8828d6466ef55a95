#include "providers/process/pod_store.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <filesystem>
#include <thread>

#include "common/file.h"
#include "common/scope_exit.h"
#include "providers/process/lock.h"
#include "providers/process/pidfd.h"
#include "providers/process/process_table.h"
#include "providers/process/shim.h"
#include "providers/process/spawn.h"

namespace k8sgpu::providers::process {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kTrash = ".trash-";
constexpr int kBuryRounds = 200;
constexpr Duration kBuryPause{10};

bool exists(const std::string& path) {
    struct stat info {};
    return ::lstat(path.c_str(), &info) == 0;
}

Result<std::vector<std::string>> entries(const std::string& directory) {
    std::vector<std::string> names;
    std::error_code error;
    fs::directory_iterator it(directory, error);
    for (; !error && it != fs::directory_iterator(); it.increment(error))
        names.push_back(it->path().filename());
    if (error) return fail(error_from_errno(error.value(), directory));
    return names;
}

Result<ShimMark> read_shim_mark(const std::string& path) {
    auto text = read_file(path, 4096);
    if (!text) return fail(text.error());
    auto json = parse_json(*text, path);
    if (!json) return fail(json.error());
    return ShimMark{static_cast<pid_t>(int_at(*json, {"pid"})),
                    static_cast<std::uint64_t>(int_at(*json, {"startTime"})), string_at(*json, {"bootId"})};
}

// Everything that is left of the pod: marked processes, and the sessions of main processes that still are who
// they were.
std::set<pid_t> leftovers(const ProcessTable& table, const PodTrace& trace) {
    std::set<pid_t> left = marked(table, trace.intent.id.uid, "");
    for (const ProcessMark& mark : trace.report.processes) {
        const auto main = table.find(mark.pid);
        if (main == table.end() || main->second.start_time != mark.start_time) continue;
        for (const auto& [pid, info] : table) {
            if (info.session == mark.pid && info.state != 'Z') left.insert(pid);
        }
    }
    return left;
}

// The directory that containers without one of their own work in: their user's when all have the same, else
// everybody's.
Result<void> make_work_directory(const PodPaths& paths, const PodIntent& intent) {
    if (auto made = ensure_directory(paths.work()); !made) return made;
    const Identity& first = intent.containers.front().identity;
    const bool same = std::all_of(intent.containers.begin(), intent.containers.end(), [&](const auto& c) {
        return c.identity.switch_user == first.switch_user && c.identity.uid == first.uid;
    });
    const bool failed = same && first.switch_user ? ::chown(paths.work().c_str(), first.uid, first.gid) != 0
                                                  : !same && ::chmod(paths.work().c_str(), 01777) != 0;
    if (failed) return fail(error_from_errno(errno, paths.work()));
    return {};
}

// What create() leaves when it is interrupted before pod.json is there; anything that is not ours stays.
void clear_unfinished(const PodPaths& files) {
    auto names = entries(files.dir);
    if (!names) return;
    for (const std::string& name : *names) {
        if (name.rfind("pod.json.", 0) == 0) ::unlink((files.dir + "/" + name).c_str());
    }
    ::unlink(files.lock().c_str());
    for (const std::string& path : {files.logs(), files.termination(), files.work(), files.dir})
        ::rmdir(path.c_str());
}

// Reads what the starting shim complains about until it has closed its end or time is up.
std::string read_complaint(int fd, const CallContext& ctx) {
    std::string text;
    std::array<char, 4096> chunk;
    while (ctx.check()) {
        pollfd waits{fd, POLLIN, 0};
        const auto left = std::min<Duration>(ctx.remaining(), Duration(100));
        if (::poll(&waits, 1, static_cast<int>(left.count())) <= 0) continue;
        const ssize_t got = ::read(fd, chunk.data(), chunk.size());
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) break;
        if (text.size() < chunk.size()) text.append(chunk.data(), static_cast<std::size_t>(got));
    }
    while (!text.empty() && text.back() == '\n') text.pop_back();
    return text;
}

}  // namespace

Result<void> PodStore::open() {
    const std::string pods = pods_directory(state_);
    // Searchable, not readable: containers of other users reach their working directory through it.
    if (auto made = ensure_directory(state_, 0711); !made) return made;
    if (auto made = ensure_directory(pods, 0711); !made) return made;
    for (const std::string& path : {state_, pods}) {
        struct stat info {};
        if (::stat(path.c_str(), &info) != 0) return fail(error_from_errno(errno, path));
        if (info.st_uid == ::geteuid() && (info.st_mode & (S_IWGRP | S_IWOTH)) == 0) continue;
        return fail(
            ErrorKind::Invalid,
            fmt::format("{}: must belong to user {} and be writable by nobody else (owner {}, mode {:o}); "
                        "choose another state directory or correct it",
                        path, ::geteuid(), info.st_uid, info.st_mode & 07777U));
    }
    auto names = entries(pods);
    if (!names) return fail(names.error());
    for (const std::string& name : *names) {
        std::error_code ignored;
        if (name.rfind(kTrash, 0) == 0) fs::remove_all(pods + "/" + name, ignored);
        if (!is_safe_uid(name)) continue;
        const auto trace = inspect(name);
        if (trace && trace->stage == Stage::Absent) clear_unfinished(paths(name));
        if (!trace || trace->stage != Stage::Intended) continue;
        // Nothing of it ever ran, and what it should run may have changed: the next ensure() writes it anew.
        if (auto gone = discard(name); !gone && gone.error().kind != ErrorKind::Conflict) return gone;
    }
    return {};
}

Result<std::vector<std::string>> PodStore::uids() const {
    auto names = entries(pods_directory(state_));
    if (!names) return fail(names.error());
    std::erase_if(*names, [this](const std::string& name) {
        return !is_safe_uid(name) || !exists(paths(name).intent());
    });
    return names;
}

Result<std::vector<PodIntent>> PodStore::intents_in_use() const {
    auto all = uids();
    if (!all) return fail(all.error());
    std::vector<PodIntent> intents;
    for (const std::string& uid : *all) {
        auto trace = inspect(uid);
        if (!trace) return fail(trace.error());
        if (trace->stage != Stage::Absent && trace->stage != Stage::Ended)
            intents.push_back(std::move(trace->intent));
    }
    return intents;
}

Result<PodTrace> PodStore::inspect(const std::string& uid) const {
    PodTrace trace;
    if (!is_safe_uid(uid)) return trace;
    const PodPaths files = paths(uid);
    auto intent = read_intent(files.intent());
    if (!intent && intent.error().kind == ErrorKind::NotFound) return trace;
    if (!intent) return fail(intent.error());
    trace.intent = std::move(*intent);
    if (auto orders = read_orders(files.orders())) trace.orders = *orders;

    // The lock before the report: a shim that is gone by now has already written its last word.
    auto held = PodLock::is_held(files.lock());
    if (!held) return fail(held.error());
    auto shim = read_shim_mark(files.shim());
    if (!shim && shim.error().kind != ErrorKind::NotFound) return fail(shim.error());
    if (auto report = read_report(files.status())) {
        trace.report = std::move(*report);
    } else if (report.error().kind != ErrorKind::NotFound) {
        return fail(report.error());
    }
    // erase() may have come between.
    if (!exists(files.intent())) return PodTrace{};
    if (shim) trace.shim = *shim;
    if (trace.report.ended) {
        trace.stage = Stage::Ended;
    } else if (*held) {
        trace.stage = Stage::Running;
    } else {
        trace.stage = shim ? Stage::Died : Stage::Intended;
    }
    return trace;
}

Result<void> PodStore::create(const PodIntent& intent) const {
    const PodPaths files = paths(intent.id.uid);
    for (const auto& [path, mode] :
         {std::pair{files.dir, mode_t{0711}}, std::pair{files.logs(), mode_t{0700}},
          std::pair{files.termination(), mode_t{0711}}}) {
        if (auto made = ensure_directory(path, mode); !made) return made;
    }
    if (auto made = make_work_directory(files, intent); !made) return made;
    if (auto written = replace_file(files.intent(), dump_json(to_json(intent)), 0600); !written)
        return written;
    if (auto synced = sync_directory(files.dir); !synced) return synced;
    return sync_directory(pods_directory(state_));
}

Result<void> PodStore::start_shim(const std::string& uid, const CallContext& ctx) const {
    std::array<int, 2> complaint{};
    if (::pipe2(complaint.data(), O_CLOEXEC) != 0) return fail(error_from_errno(errno, "pipe"));
    const ScopeExit close_read([&] { ::close(complaint[0]); });
    SpawnRequest request;
    request.argv = shim_command_;
    request.argv.insert(request.argv.end(), {"--dir", paths(uid).dir});
    // The agent's own environment (tokens, proxies) is nothing for a shim that anybody may look at.
    request.environment = {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"};
    request.err = complaint[1];
    auto pid = spawn(request);
    ::close(complaint[1]);
    if (!pid) return fail(pid.error().with_context("starting the shim"));
    const std::string text = read_complaint(complaint[0], ctx);
    int status = 0;
    if (auto alive = ctx.check(); !alive) {
        // The first half alone dies; if the second already lives, the next call finds it by its lock.
        ::kill(*pid, SIGKILL);
        ::waitpid(*pid, &status, 0);
        return alive;
    }
    while (::waitpid(*pid, &status, 0) < 0 && errno == EINTR) {
    }
    const int code = WIFEXITED(status) ? WEXITSTATUS(status) : static_cast<int>(ShimStart::Failed);
    switch (static_cast<ShimStart>(code)) {
        case ShimStart::Ready:
        case ShimStart::AlreadyRuns:
        case ShimStart::AlreadyRan:
            return {};
        default:
            return fail(ErrorKind::Unavailable, fmt::format("starting the shim: status {}: {}", code,
                                                            text.empty() ? "no reason given" : text));
    }
}

Result<void> PodStore::order(const std::string& uid, const Orders& orders) const {
    return replace_file(paths(uid).orders(), dump_json(to_json(orders)), 0600);
}

Result<Report> PodStore::bury(const PodTrace& trace, WallTime now) const {
    const PodPaths files = paths(trace.intent.id.uid);
    auto lock = PodLock::take(files.lock());
    if (!lock && lock.error().kind == ErrorKind::AlreadyExists) {
        return fail(ErrorKind::Conflict, "another thread is cleaning up after the shim");
    }
    if (!lock) return fail(lock.error());
    // Somebody may have been here since `trace` was read.
    if (auto report = read_report(files.status()); report && report->ended) return report;

    const auto boot = boot_id();
    if (!boot) return fail(boot.error());
    const bool same_boot = *boot == trace.shim.boot_id;
    for (int round = 0; same_boot; ++round) {
        const ProcessTable table = read_process_table();
        const std::set<pid_t> left = leftovers(table, trace);
        if (left.empty()) break;
        if (round == kBuryRounds) {
            return fail(
                ErrorKind::Unavailable,
                fmt::format("process {} of a pod whose shim died does not end on SIGKILL", *left.begin()));
        }
        kill_all(table, left);
        std::this_thread::sleep_for(kBuryPause);
    }
    Report report = trace.report;
    report.ended = true;
    report.removing = trace.orders.stop_grace.has_value();
    report.written = now;
    report.processes.clear();
    report.pod_status =
        same_boot
            ? lost_status(
                  trace.report.pod_status, trace.intent, "SupervisorLost",
                  "the process that supervised this pod was killed; its containers were ended with it and "
                  "are not started again",
                  now)
            : lost_status(trace.report.pod_status, trace.intent, "HostRebooted",
                          "the host was restarted while the pod ran; its containers are not started again",
                          now);
    if (auto written = replace_file(files.status(), dump_json(to_json(report)), 0600); !written) {
        return fail(written.error());
    }
    if (auto synced = sync_directory(files.dir); !synced) return fail(synced.error());
    return report;
}

void PodStore::kill_shim(const PodTrace& trace) const {
    const int fd = open_pidfd(trace.shim.pid);
    if (fd < 0) return;
    const auto now = read_process(trace.shim.pid);
    if (now && now->start_time == trace.shim.start_time) signal_pidfd(fd, SIGKILL);
    ::close(fd);
}

Result<void> PodStore::discard(const std::string& uid) const {
    // Under the lock no shim starts, and one that comes later finds nothing to write its announcement into.
    const auto lock = PodLock::take(paths(uid).lock());
    if (!lock && lock.error().kind == ErrorKind::AlreadyExists) {
        return fail(ErrorKind::Conflict, "a shim has just started the pod");
    }
    if (!lock) return fail(lock.error());
    if (exists(paths(uid).shim())) return fail(ErrorKind::Conflict, "a shim has run the pod");
    return erase(uid);
}

Result<void> PodStore::erase(const std::string& uid) const {
    if (!is_safe_uid(uid)) return {};
    const std::string trash = fmt::format("{}/{}{}", pods_directory(state_), kTrash, uid);
    std::error_code error;
    fs::remove_all(trash, error);
    // One step: a pod is there or not, never half.
    if (::rename(paths(uid).dir.c_str(), trash.c_str()) != 0 && errno != ENOENT) {
        return fail(error_from_errno(errno, paths(uid).dir));
    }
    if (auto synced = sync_directory(pods_directory(state_)); !synced) return synced;
    fs::remove_all(trash, error);  // what stays is cleared at the next start
    return {};
}

}  // namespace k8sgpu::providers::process
