#include "providers/process/shim_loop.h"

#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/inotify.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>

#include "common/file.h"

namespace k8sgpu::providers::process {
namespace {

constexpr Duration kLeftoverRetry{20}, kMaxLeftoverRetry{500};
constexpr Duration kStatusRetry{1000};
constexpr Duration kTellAgain{60'000};
constexpr std::size_t kMaxEvents = 16, kMaxTold = 256;
constexpr Duration kAttachPatience{5000};  // for sessions to take the last output of the pod
constexpr Duration kOrdersPoll{1000};      // only without inotify

// To shim.log; the agent's log cannot be reached from here.
void complain(const std::string& text) {
    fmt::print(stderr, "{}\n", text);
    std::fflush(stderr);
}

}  // namespace

Times ShimLoop::now() {
    return {std::chrono::steady_clock::now(), std::chrono::system_clock::now()};
}

ShimLoop::ShimLoop(PodPaths paths, PodIntent intent)
    : paths_(std::move(paths)),
      intent_(std::move(intent)),
      machine_(intent_, now()),
      attach_([this](std::string_view name) { return find(name); }) {}

ShimLoop::~ShimLoop() {
    if (signals_ >= 0) ::close(signals_);
    if (watch_ >= 0) ::close(watch_);
}

Result<void> ShimLoop::prepare() {
    sigset_t handled;
    ::sigemptyset(&handled);
    for (const int number : {SIGCHLD, SIGTERM, SIGINT}) ::sigaddset(&handled, number);
    if (::sigprocmask(SIG_SETMASK, &handled, nullptr) != 0)
        return fail(error_from_errno(errno, "sigprocmask"));
    ::signal(SIGPIPE, SIG_IGN);
    ::signal(SIGHUP, SIG_IGN);
    signals_ = ::signalfd(-1, &handled, SFD_CLOEXEC | SFD_NONBLOCK);
    if (signals_ < 0) return fail(error_from_errno(errno, "signalfd"));
    watch_ = ::inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (watch_ >= 0 && ::inotify_add_watch(watch_, paths_.dir.c_str(), IN_MOVED_TO) < 0) {
        ::close(watch_);
        watch_ = -1;
    }
    if (auto listens = attach_.listen(paths_); !listens)
        complain("nobody can attach: " + listens.error().message);
    if (!publish(/*ended=*/false)) return fail(ErrorKind::Internal, paths_.status() + ": cannot be written");
    return {};
}

void ShimLoop::run() {
    while (true) {
        retry_at_.reset();
        take_orders();
        finish_containers();
        step_checks();
        for (auto actions = machine_.step(now()); !actions.empty(); actions = machine_.step(now())) {
            for (const Action& action : actions) perform(action);
        }
        if (machine_.ended()) break;
        publish(/*ended=*/false);
        // Output alone decides nothing: a container that prints much must not cost a status each time.
        while (!wait()) {
        }
    }
    kill_stragglers();
    while (!publish(/*ended=*/true)) {
        // Without this word the agent would call a finished pod lost. A removed directory has no reader.
        if (::access(paths_.dir.c_str(), F_OK) != 0) return;
        ::poll(nullptr, 0, static_cast<int>(kStatusRetry.count()));
    }
    attach_.close(kAttachPatience);
}

void ShimLoop::take_orders() {
    const auto orders = read_orders(paths_.orders());
    if (!orders) {
        if (orders.error().kind != ErrorKind::NotFound) complain(orders.error().message);
        return;
    }
    if (orders->active_deadline) machine_.set_active_deadline(*orders->active_deadline);
    if (orders->stop_grace) machine_.stop(*orders->stop_grace, /*removal=*/true, now());
}

// What probes and hooks have come to since the last time.
void ShimLoop::step_checks() {
    for (auto& [index, checks] : checks_) {
        checks.step(now().steady);
        for (const PodEvent& event : checks.take_events()) tell(event);
        if (auto verdict = checks.take_verdict()) {
            if (intent_.restart != RestartPolicy::Never && verdict->event.reason == "Killing")
                verdict->event.message += ", will be restarted";
            tell(verdict->event);
            machine_.end_run(index, verdict->grace.value_or(intent_.grace), now());
        }
        const ShimContainer* container = find(index);
        if (checks.take_stopped() && container != nullptr) container->terminate();
        machine_.set_checks(index, checks.hooking(), checks.started(), checks.ready());
    }
}

void ShimLoop::tell(const PodEvent& event) {
    const SteadyTime at = now().steady;
    const auto [known, fresh] = told_.try_emplace(event.reason + event.message, at);
    if (!fresh && at - known->second < kTellAgain) return;
    known->second = at;
    if (told_.size() > kMaxTold) told_.clear();
    events_.push_back({next_event_++, event});
    if (events_.size() > kMaxEvents) events_.erase(events_.begin());
}

void ShimLoop::perform(const Action& action) {
    if (const auto* begin = std::get_if<StartContainer>(&action)) return start(*begin);
    if (const auto* term = std::get_if<TerminateContainer>(&action)) {
        const ShimContainer* container = find(term->index);
        if (container == nullptr) return;
        const auto checks = checks_.find(term->index);
        const auto left = machine_.kill_at(term->index).value_or(now().steady) - now().steady;
        const bool at_once = checks == checks_.end() ||
                             checks->second.stop(std::chrono::duration_cast<Duration>(left), now().steady);
        if (at_once) container->terminate();
    }
    // KillContainer needs no act of its own: finish_containers() sees that the grace is over.
    if (std::holds_alternative<KillContainer>(action)) finish_containers();
}

void ShimLoop::start(const StartContainer& action) {
    auto container =
        ShimContainer::start(paths_, intent_, action.index, action.run,
                             [this](const ShimContainer& from, LogStream stream, std::string_view bytes) {
                                 attach_.output(from, stream, bytes);
                             });
    if (!container) {
        machine_.exited(action.index, 128, "StartError", container.error().message, now());
        return;
    }
    machine_.started(action.index, now());
    const ContainerIntent& intent = intent_.containers[action.index];
    if (!intent.checks.empty()) {
        const std::string address = intent_.pod_ips.empty() ? "" : intent_.pod_ips.front();
        checks_.erase(action.index);
        checks_.try_emplace(action.index, intent, (*container)->command(), address, now().steady);
    }
    containers_.push_back(std::move(*container));
    step_checks();
}

bool ShimLoop::wait() {
    std::vector<pollfd> fds = {{signals_, POLLIN, 0}};
    if (watch_ >= 0) fds.push_back({watch_, POLLIN, 0});
    const std::size_t first_pipe = fds.size();
    std::vector<std::pair<ShimContainer*, LogStream>> pipes;
    for (const auto& container : containers_) {
        for (const LogStream stream : {LogStream::Stdout, LogStream::Stderr}) {
            if (container->output(stream) < 0) continue;
            fds.push_back({container->output(stream), POLLIN, 0});
            pipes.emplace_back(container.get(), stream);
        }
    }
    const std::size_t first_session = fds.size();
    attach_.add_to(fds);
    std::vector<std::size_t> first_of_checks;
    std::optional<SteadyTime> until = machine_.wake_at();
    for (const auto& [index, checks] : checks_) {
        first_of_checks.push_back(fds.size());
        checks.add_to(fds);
        if (const auto at = checks.wake_at()) until = until ? std::min(*until, *at) : *at;
    }
    if (retry_at_) until = until ? std::min(*until, *retry_at_) : *retry_at_;
    if (watch_ < 0) until = std::min(until.value_or(SteadyTime::max()), now().steady + kOrdersPoll);
    int timeout = -1;
    if (until) {
        const auto left = std::chrono::ceil<Duration>(*until - now().steady);
        timeout = static_cast<int>(std::clamp<std::int64_t>(left.count(), 0, 3'600'000));
    }
    if (::poll(fds.data(), fds.size(), timeout) < 0) return true;
    bool only_output = until ? now().steady < *until : true;
    for (std::size_t i = 0; i < pipes.size(); ++i) {
        if (fds[first_pipe + i].revents == 0) continue;
        pipes[i].first->read_output(pipes[i].second, now().wall);
        if (const auto event = pipes[i].first->take_log_event()) {
            tell(*event);
            only_output = false;
        }
    }
    attach_.handle(fds, first_session);
    for (auto place = first_of_checks.begin(); auto& [index, checks] : checks_) {
        if (checks.handle(fds, *place++, now().steady)) only_output = false;
    }
    if (watch_ >= 0 && fds[1].revents != 0) {
        only_output = false;
        std::array<char, 4096> events;
        while (::read(watch_, events.data(), events.size()) > 0) {
        }
    }
    if (fds[0].revents != 0) {
        only_output = false;
        take_signals();
    }
    return !only_output;
}

void ShimLoop::take_signals() {
    signalfd_siginfo info{};
    while (::read(signals_, &info, sizeof info) == static_cast<ssize_t>(sizeof info)) {
        // The host shuts down, or somebody ends us by hand: the pod ends in order with us.
        if (info.ssi_signo != SIGCHLD) machine_.stop(intent_.grace, /*removal=*/false, now());
    }
    reap();
}

void ShimLoop::reap() {
    int status = 0;
    for (pid_t pid = ::waitpid(-1, &status, WNOHANG); pid > 0; pid = ::waitpid(-1, &status, WNOHANG)) {
        for (const auto& container : containers_) {
            if (container->pid() == pid && !container->main_ended()) container->reaped(status);
        }
    }
}

// A container has ended when its main process has and nothing that it started is left: what remains is
// killed, as the end of a PID namespace does, but during a graceful stop only once the grace is over.
void ShimLoop::finish_containers() {
    bool look = false, waits = false;
    for (const auto& container : containers_) {
        look = look || container->main_ended() || machine_.records()[container->index()].kill_sent;
    }
    if (!look) return;
    const ProcessTable table = read_process_table();
    for (auto it = containers_.begin(); it != containers_.end();) {
        ShimContainer& container = **it;
        const ContainerRecord& record = machine_.records()[container.index()];
        std::set<pid_t> left = container.members(table);
        const bool forced = record.kill_sent || (container.main_ended() && !machine_.stopping());
        bool over = container.main_ended() && left.empty();
        if (forced || over) {
            left.merge(marked(table, intent_.id.uid, intent_.containers[container.index()].name));
            left.erase(::getpid());
            kill_all(table, left);
            over = container.main_ended() && left.empty();
        }
        if (!over) {
            waits = waits || container.main_ended() || record.kill_sent;
            ++it;
            continue;
        }
        const auto end = container.finish(now().wall);
        attach_.ended(container);
        checks_.erase(container.index());
        machine_.exited(container.index(), end.exit_code, end.reason, end.message, now());
        it = containers_.erase(it);
    }
    // Most leftovers are gone in no time; one that hangs in the kernel must not cost a core.
    leftover_delay_ = waits ? std::min(leftover_delay_ * 2, kMaxLeftoverRetry) : kLeftoverRetry;
    if (waits) retry_in(leftover_delay_);
}

// Whatever slipped out of its session and dropped its mark is still below us.
void ShimLoop::kill_stragglers() {
    while (true) {
        reap();
        const ProcessTable table = read_process_table();
        std::set<pid_t> left = marked(table, intent_.id.uid, "");
        for (const pid_t pid : descendants(table, ::getpid())) {
            if (table.at(pid).state != 'Z') left.insert(pid);
        }
        left.erase(::getpid());
        if (left.empty()) return;
        kill_all(table, left);
        ::poll(nullptr, 0, static_cast<int>(kLeftoverRetry.count()));
    }
}

bool ShimLoop::publish(bool ended) {
    Report report;
    report.pod_status = render_status(machine_);
    report.ended = ended;
    report.removing = machine_.removing();
    report.events = events_;
    for (const auto& container : containers_) {
        report.processes.push_back({intent_.containers[container->index()].name, container->pid(),
                                    container->start_time(), container->run(),
                                    cpu_nanoseconds(container->reaped_before())});
    }
    const bool same = any_published_ && report.pod_status == published_.pod_status &&
                      report.ended == published_.ended && report.removing == published_.removing &&
                      report.processes.size() == published_.processes.size() &&
                      (report.events.empty() ? 0 : report.events.back().number) ==
                          (published_.events.empty() ? 0 : published_.events.back().number);
    if (same) return true;
    report.written = now().wall;
    auto written = replace_file(paths_.status(), dump_json(to_json(report)), 0600);
    if (written && ended) written = sync_directory(paths_.dir);
    if (!written) {
        if (!failed_to_publish_) complain("writing the status: " + written.error().message);
        failed_to_publish_ = true;
        // Somebody has deleted the trace: nobody could ever end this pod through us again.
        if (written.error().kind == ErrorKind::NotFound) {
            machine_.stop(std::chrono::seconds(0), /*removal=*/true, now());
        }
        retry_in(kStatusRetry);
        return false;
    }
    failed_to_publish_ = false;
    any_published_ = true;
    published_ = std::move(report);
    return true;
}

ShimContainer* ShimLoop::find(std::size_t index) {
    for (const auto& container : containers_) {
        if (container->index() == index) return container.get();
    }
    return nullptr;
}

ShimContainer* ShimLoop::find(std::string_view name) {
    for (const auto& container : containers_) {
        if (intent_.containers[container->index()].name == name && !container->main_ended())
            return container.get();
    }
    return nullptr;
}

void ShimLoop::retry_in(Duration delay) {
    const SteadyTime at = now().steady + delay;
    retry_at_ = retry_at_ ? std::min(*retry_at_, at) : at;
}

}  // namespace k8sgpu::providers::process
