#include "providers/process/watcher.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "common/file.h"
#include "common/log.h"
#include "providers/process/pidfd.h"
#include "providers/process/pod_events.h"
#include "providers/process/process_table.h"

namespace k8sgpu::providers::process {
namespace {

constexpr Duration kRound{30'000};
constexpr Duration kRetry{1000};  // something could not be read, buried or watched

void close_fd(int& fd) {
    if (fd >= 0) ::close(fd);
    fd = -1;
}

bool same(const ObservedPod& a, const ObservedPod& b) {
    return a.status == b.status && a.may_be_running == b.may_be_running && a.removing == b.removing &&
           a.gone == b.gone;
}

}  // namespace

bool is_absent(const PodTrace& trace) {
    return trace.stage == Stage::Absent || trace.stage == Stage::Intended;
}

ObservedPod observed_from(const PodTrace& trace) {
    ObservedPod pod;
    pod.id = trace.intent.id;
    pod.status = trace.report.pod_status;
    if (pod.status.empty() && !is_absent(trace)) pod.status = {{"phase", "Pending"}};
    pod.may_be_running = trace.stage != Stage::Ended && !is_absent(trace);
    pod.removing = trace.report.removing || trace.orders.stop_grace.has_value();
    pod.gone = is_absent(trace);
    if (trace.shim.pid != 0) pod.backend_id = "shim process " + std::to_string(trace.shim.pid);
    return pod;
}

Result<PodTrace> settle(const PodStore& store, const std::string& uid, WallTime now) {
    auto trace = store.inspect(uid);
    if (!trace || trace->stage != Stage::Died) return trace;
    auto report = store.bury(*trace, now);
    if (!report && report.error().kind == ErrorKind::Conflict) return trace;
    if (!report && report.error().kind != ErrorKind::Unavailable) return fail(report.error());
    if (!report) {
        log().warn("{}: {}", trace->intent.id, report.error().message);
        return trace;
    }
    log().warn("{}: the shim died; its containers were killed and the pod is Failed", trace->intent.id);
    trace->report = std::move(*report);
    trace->stage = Stage::Ended;
    return trace;
}

Watcher::Watcher(const PodStore& store, Clock& clock, Duration linger)
    : store_(store), clock_(clock), linger_(linger) {}

Watcher::~Watcher() {
    stop();
    close_fd(wake_);
    close_fd(events_);
}

Result<void> Watcher::start(ProviderObserver& observer, std::vector<std::string> uids) {
    observer_ = &observer;
    wake_ = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (wake_ < 0) return fail(error_from_errno(errno, "eventfd"));
    events_ = ::inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (events_ < 0) {
        log().warn("inotify is not available ({}); pods are polled once a second instead",
                   std::strerror(errno));
    }
    inbox_.lock()->touched.insert(uids.begin(), uids.end());
    next_round_ = clock_.now() + kRound;
    thread_ = Thread("prov-process", [this](const std::stop_token& stop) { run(stop); });
    return {};
}

void Watcher::stop() {
    thread_.request_stop();
    wake();
    thread_.join();
    for (auto& [uid, entry] : entries_) close_fd(entry.pidfd);
    entries_.clear();
}

void Watcher::touch(const std::string& uid) {
    inbox_.lock()->touched.insert(uid);
    wake();
}
void Watcher::report_gone(ObservedPod pod) {
    inbox_.lock()->gone.push_back(std::move(pod));
    wake();
}
void Watcher::tell(const PodId& pod, const PodEvent& event) {
    inbox_.lock()->events.emplace_back(pod, event);
    wake();
}
void Watcher::adopt(pid_t child) {
    inbox_.lock()->children.push_back(child);
    wake();
}

void Watcher::wake() const {
    const std::uint64_t one = 1;
    if (wake_ >= 0) [[maybe_unused]]
        const ssize_t put = ::write(wake_, &one, sizeof one);
}

void Watcher::run(const std::stop_token& stop) {
    while (!stop.stop_requested()) {
        take_inbox();
        std::erase_if(children_, [](pid_t child) { return ::waitpid(child, nullptr, WNOHANG) != 0; });
        const bool round = clock_.now() >= next_round_;
        if (round) next_round_ = clock_.now() + kRound;
        for (const auto& [uid, entry] : entries_) {
            if (entry.stage != Stage::Ended && (round || events_ < 0)) dirty_.insert(uid);
        }
        for (const std::string& uid : std::exchange(dirty_, {})) look(uid);
        sweep();
        wait();
    }
}

void Watcher::take_inbox() {
    Inbox inbox;
    std::swap(inbox, *inbox_.lock());
    for (const std::string& uid : inbox.touched) {
        Entry& entry = entries_[uid];
        // The watch comes before the look, so no change falls between.
        if (events_ >= 0 && entry.watch < 0) {
            entry.watch =
                ::inotify_add_watch(events_, store_.paths(uid).dir.c_str(), IN_MOVED_TO | IN_ONLYDIR);
        }
        dirty_.insert(uid);
    }
    for (const ObservedPod& pod : inbox.gone) {
        drop(pod.id.uid);
        dirty_.erase(pod.id.uid);
        observer_->on_pod_changed(pod);
    }
    for (const auto& [pod, event] : inbox.events)
        observer_->on_pod_event(pod, event.type, event.reason, event.message);
    children_.insert(children_.end(), inbox.children.begin(), inbox.children.end());
}

void Watcher::look(const std::string& uid) {
    const auto found = entries_.find(uid);
    if (found == entries_.end()) return;
    Entry& entry = found->second;
    auto trace = settle(store_, uid, clock_.wall_now());
    if (!trace) {
        log().warn("pod uid={}: {}", uid, trace.error().message);
        entry.stage = Stage::Died;  // looked at again soon
        return;
    }
    entry.stage = trace->stage;
    if (is_absent(*trace)) {
        ObservedPod last = entry.last;
        const bool seen = entry.seen;
        drop(uid);
        if (!seen) return;
        last.gone = true;
        last.may_be_running = false;
        observer_->on_pod_changed(last);
        return;
    }
    const bool lingers = trace->stage == Stage::Ended && observed_from(*trace).removing;
    if (lingers && !entry.lingers) entry.lingers_until = clock_.now() + linger_;
    entry.lingers = lingers;
    follow_shim(entry, *trace);
    report(entry, *trace);
}

void Watcher::report(Entry& entry, const PodTrace& trace) {
    const ObservedPod now = observed_from(trace);
    const bool told = trace.report.events.empty() || trace.report.events.back().number == entry.last_event;
    if (entry.seen && told && same(now, entry.last)) return;
    // What happened while no agent looked has no Event: it may have been told before.
    std::vector<PodEvent> events;
    if (entry.seen) {
        events = events_between(now.id, entry.last.status, now.status, entry.last.removing, now.removing);
        for (const ShimEvent& event : trace.report.events) {
            if (event.number > entry.last_event) events.push_back(event.event);
        }
    }
    if (!trace.report.events.empty()) entry.last_event = trace.report.events.back().number;
    entry.last = now;
    entry.seen = true;
    observer_->on_pod_changed(now);
    for (const PodEvent& event : events)
        observer_->on_pod_event(now.id, event.type, event.reason, event.message);
}

void Watcher::follow_shim(Entry& entry, const PodTrace& trace) {
    if (trace.stage != Stage::Running) {
        close_fd(entry.pidfd);
        // Where the agent is init or a subreaper, the shim has become its child.
        if (trace.stage == Stage::Ended && trace.shim.pid > 0) ::waitpid(trace.shim.pid, nullptr, WNOHANG);
        return;
    }
    if (entry.pidfd >= 0) return;
    entry.pidfd = open_pidfd(trace.shim.pid);
    const auto process = read_process(trace.shim.pid);
    if (process && process->start_time == trace.shim.start_time) return;
    close_fd(entry.pidfd);
    entry.stage = Stage::Died;  // it is ending right now: look again soon
}

void Watcher::sweep() {
    std::vector<std::string> over;
    for (const auto& [uid, entry] : entries_) {
        if (entry.lingers && clock_.now() >= entry.lingers_until) over.push_back(uid);
    }
    for (const std::string& uid : over) {
        if (auto erased = store_.erase(uid); !erased) {
            log().warn("pod uid={}: removing its trace: {}", uid, erased.error().message);
            entries_[uid].lingers_until = clock_.now() + kRetry;
            continue;
        }
        ObservedPod last = entries_[uid].last;
        drop(uid);
        last.gone = true;
        observer_->on_pod_changed(last);
    }
}

void Watcher::drop(const std::string& uid) {
    const auto found = entries_.find(uid);
    if (found == entries_.end()) return;
    if (found->second.watch >= 0) ::inotify_rm_watch(events_, found->second.watch);
    close_fd(found->second.pidfd);
    entries_.erase(found);
}

int Watcher::timeout_ms() const {
    Duration least = std::max(Duration::zero(), std::chrono::ceil<Duration>(next_round_ - clock_.now()));
    if (!children_.empty() || events_ < 0) least = std::min(least, kRetry);
    for (const auto& [uid, entry] : entries_) {
        if (entry.stage == Stage::Died) least = std::min(least, kRetry);
        if (!entry.lingers) continue;
        const auto left = std::chrono::ceil<Duration>(entry.lingers_until - clock_.now());
        least = std::min(least, std::max(Duration(1), left));
    }
    return static_cast<int>(least.count());
}

void Watcher::wait() {
    std::vector<pollfd> fds = {{wake_, POLLIN, 0}, {events_, POLLIN, 0}};
    std::vector<std::string> shims;
    for (const auto& [uid, entry] : entries_) {
        if (entry.pidfd < 0) continue;
        fds.push_back({entry.pidfd, POLLIN, 0});
        shims.push_back(uid);
    }
    const int got = ::poll(fds.data(), fds.size(), timeout_ms());
    for (const auto& [uid, entry] : entries_) {
        if (got == 0 && entry.stage == Stage::Died) dirty_.insert(uid);
    }
    if (got <= 0) return;
    std::uint64_t count = 0;
    if (fds[0].revents != 0) [[maybe_unused]]
        const ssize_t drained = ::read(wake_, &count, sizeof count);
    if (fds[1].revents != 0) read_events();
    for (std::size_t i = 0; i < shims.size(); ++i) {
        if (fds[i + 2].revents == 0) continue;
        Entry& entry = entries_[shims[i]];
        close_fd(entry.pidfd);
        dirty_.insert(shims[i]);
    }
}

void Watcher::read_events() {
    alignas(inotify_event) std::array<char, 16384> buffer;
    ssize_t got = 0;
    while ((got = ::read(events_, buffer.data(), buffer.size())) > 0) {
        for (const char* at = buffer.data(); at < buffer.data() + got;) {
            const auto* event = reinterpret_cast<const inotify_event*>(at);
            at += sizeof(inotify_event) + event->len;
            const bool lost_some = (event->mask & IN_Q_OVERFLOW) != 0;
            for (const auto& [uid, entry] : entries_) {
                if (lost_some || entry.watch == event->wd) dirty_.insert(uid);
            }
        }
    }
}

}  // namespace k8sgpu::providers::process
