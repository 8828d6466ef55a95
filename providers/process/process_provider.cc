#include "providers/process/process_provider.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <charconv>

#include "common/log.h"
#include "net/dial.h"
#include "net/socket_stream.h"
#include "providers/process/attach_session.h"
#include "providers/process/exec_session.h"
#include "providers/process/host.h"
#include "providers/process/log_choice.h"
#include "providers/process/log_reader.h"
#include "providers/process/port_owner.h"
#include "providers/process/prepare.h"
#include "providers/process/process_table.h"

namespace k8sgpu::providers::process {
namespace {

// A shim that has not obeyed an order to kill for this long is killed itself.
constexpr std::chrono::seconds kObedience{10};

using FetchedObjects = std::map<std::pair<LocalKind, std::string>, Result<Json>>;

// Everything that environments name, fetched before any decision is made. Errors other than NotFound and
// Forbidden end it: they say nothing about the object.
Result<FetchedObjects> fetch_objects(const DesiredPod& desired, LocalObjects& objects,
                                     const CallContext& ctx) {
    FetchedObjects fetched;
    for (const ObjectReference& reference : collect_references(desired.pod)) {
        if (reference.use != ReferenceUse::Env && reference.use != ReferenceUse::EnvFrom) continue;
        const std::pair key{reference.kind, reference.name};
        if (fetched.contains(key)) continue;
        auto object = objects.fetch(reference.kind, desired.id.ns, reference.name, ctx);
        if (!object && object.error().kind != ErrorKind::NotFound &&
            object.error().kind != ErrorKind::Forbidden) {
            return fail(object.error().with_context("reading what " + reference.field + " names"));
        }
        fetched.emplace(key, std::move(object));
    }
    return fetched;
}

bool older_than(const std::string& path, std::chrono::seconds age, WallTime now) {
    struct stat info {};
    if (::stat(path.c_str(), &info) != 0) return false;
    return std::chrono::system_clock::from_time_t(info.st_mtime) + age < now;
}

ObservedPod gone(const PodId& id, const PodTrace& trace) {
    ObservedPod pod = observed_from(trace);
    pod.id = id;
    pod.gone = true;
    pod.may_be_running = false;
    pod.removing = true;
    return pod;
}

}  // namespace

ProcessProvider::ProcessProvider(ProcessProviderOptions options, Clock& clock, LocalObjects& objects)
    : options_(std::move(options)),
      clock_(clock),
      objects_(objects),
      store_(options_.state_directory, options_.shim_command),
      usage_(store_),
      watcher_(std::make_unique<Watcher>(store_, clock, options_.linger)) {}

ProcessProvider::~ProcessProvider() {
    stop();
}

Result<void> ProcessProvider::start(ProviderObserver& observer) {
    if (options_.state_directory.empty() || options_.state_directory.front() != '/') {
        return fail(ErrorKind::Invalid, fmt::format("state directory \"{}\": must be an absolute path",
                                                    options_.state_directory));
    }
    if (auto opened = store_.open(); !opened)
        return fail(opened.error().with_context("opening the state directory"));
    auto offered = host_capacity(options_.state_directory, options_.capacity);
    if (!offered) return fail(offered.error());
    options_.node.allocatable.insert(offered->begin(), offered->end());  // what was given stays
    auto uids = store_.uids();
    if (!uids) return fail(uids.error());
    if (!uids->empty()) log().info("process provider: found {} pods of an earlier run", uids->size());
    if (auto started = watcher_->start(observer, std::move(*uids)); !started) return started;
    observer.on_reachable_changed(true, "");
    return {};
}

void ProcessProvider::stop() {
    watcher_->stop();
}

CheckFacts ProcessProvider::check_facts() const {
    CheckFacts facts{options_.user, {}};
    for (const auto& [resource, amount] : options_.capacity) {
        if (!amount.empty()) facts.resources.insert(resource);
    }
    return facts;
}

std::optional<Refused> ProcessProvider::check(const DesiredPod& pod) const {
    if (!is_safe_uid(pod.id.uid)) {
        return Refused{kUnsupported, "metadata.uid: \"" + pod.id.uid +
                                         "\" is no UID of an API server; create the pod through one"};
    }
    return check_pod(pod.pod, check_facts());
}

Result<EnsureOutcome> ProcessProvider::ensure(const DesiredPod& pod, const CallContext& ctx) {
    auto trace = settle(store_, pod.id.uid, clock_.wall_now());
    if (!trace) return fail(trace.error());
    if (trace->stage == Stage::Absent) {
        if (auto refused = check(pod)) return EnsureOutcome(std::move(*refused));
        auto created = create(pod, ctx);
        if (!created) return fail(created.error());
        if (*created) return std::move(**created);
    }
    if (trace->stage == Stage::Absent || trace->stage == Stage::Intended) {
        if (auto started = store_.start_shim(pod.id.uid, ctx); !started) return fail(started.error());
    }
    watcher_->touch(pod.id.uid);
    return EnsureOutcome(Accepted{});
}

Result<std::optional<EnsureOutcome>> ProcessProvider::create(const DesiredPod& desired,
                                                             const CallContext& ctx) {
    auto objects = fetch_objects(desired, objects_, ctx);
    if (!objects) return fail(objects.error());
    const ObjectLookup lookup = [&](LocalKind kind, const std::string& name) -> Result<Json> {
        const auto found = objects->find({kind, name});
        if (found == objects->end()) return fail(ErrorKind::NotFound, name + ": not fetched");
        return found->second;
    };
    const PodPaths files = store_.paths(desired.id.uid);
    const std::scoped_lock one_at_a_time(creating_);
    PrepareFacts facts{options_.node,
                       options_.user,
                       files,
                       options_.limits,
                       check_facts().resources.contains(kGpuResource),
                       {}};
    if (facts.offers_gpus) {
        auto free = free_gpus();
        if (!free) return fail(free.error());
        facts.free_gpus = std::move(*free);
    }
    auto prepared = prepare(desired, facts, lookup);
    if (!prepared) return fail(prepared.error());
    if (auto* blocked = std::get_if<Blocked>(&*prepared))
        return std::optional<EnsureOutcome>(std::move(*blocked));
    if (auto* refused = std::get_if<Refused>(&*prepared))
        return std::optional<EnsureOutcome>(std::move(*refused));
    if (auto created = store_.create(std::get<PodIntent>(*prepared)); !created) {
        return fail(created.error().with_context("writing what to run"));
    }
    return std::optional<EnsureOutcome>();
}

Result<std::vector<int>> ProcessProvider::free_gpus() const {
    int count = 0;
    const std::string& amount = options_.capacity.at(kGpuResource);
    std::from_chars(amount.data(), amount.data() + amount.size(), count);
    auto intents = store_.intents_in_use();
    if (!intents) return fail(intents.error().with_context("counting GPUs in use"));
    std::set<int> used;
    for (const PodIntent& intent : *intents) {
        for (const ContainerIntent& container : intent.containers)
            used.insert(container.gpus.begin(), container.gpus.end());
    }
    std::vector<int> free;
    for (int i = 0; i < count; ++i) {
        if (!used.contains(i)) free.push_back(i);
    }
    return free;
}

Result<void> ProcessProvider::update(const DesiredPod& pod, const CallContext&) {
    auto trace = store_.inspect(pod.id.uid);
    if (!trace) return fail(trace.error());
    if (is_absent(*trace)) return fail(ErrorKind::NotFound, "no such pod on this host");
    note_images(pod, trace->intent);
    const Json& deadline = at(pod.pod, {"spec", "activeDeadlineSeconds"});
    if (!deadline.is_number_integer()) return {};
    const std::chrono::seconds wanted(std::max<std::int64_t>(0, deadline.get<std::int64_t>()));
    const auto known =
        trace->orders.active_deadline ? trace->orders.active_deadline : trace->intent.active_deadline;
    if (known == wanted) return {};
    Orders orders = trace->orders;
    orders.active_deadline = wanted;
    return store_.order(pod.id.uid, orders);
}

void ProcessProvider::note_images(const DesiredPod& pod, const PodIntent& running) {
    for (const char* list : {"initContainers", "containers"}) {
        for (const Json& wanted : array_at(pod.pod, {"spec", list})) {
            const std::string name = string_at(wanted, {"name"}), image = string_at(wanted, {"image"});
            for (const ContainerIntent& container : running.containers) {
                if (container.name != name || container.image == image) continue;
                if (!images_noted_.lock()->insert(pod.id.uid + "/" + name + "/" + image).second) continue;
                watcher_->tell(
                    pod.id, {"Warning", "ImageChangeIgnored",
                             fmt::format("Container {}: image \"{}\" changes nothing: a process of the host "
                                         "runs no image, and goes on with its command",
                                         name, image)});
            }
        }
    }
}

Result<void> ProcessProvider::remove(const PodId& pod, std::chrono::seconds grace, const CallContext&) {
    auto trace = settle(store_, pod.uid, clock_.wall_now());
    if (!trace) return fail(trace.error());
    if (trace->stage == Stage::Died)
        return fail(ErrorKind::Unavailable, "something of the pod does not end on SIGKILL");
    if (trace->stage == Stage::Intended) {
        auto discarded = store_.discard(pod.uid);
        if (!discarded && discarded.error().kind != ErrorKind::Conflict) return discarded;
        if (discarded) {
            watcher_->report_gone(gone(pod, PodTrace{}));
            return {};
        }
        trace = settle(store_, pod.uid, clock_.wall_now());
        if (!trace) return fail(trace.error());
    }
    if (trace->stage != Stage::Running) return erase(*trace, pod);

    const std::string file = store_.paths(pod.uid).orders();
    const auto before = trace->orders.stop_grace;
    if (before == std::chrono::seconds(0) && older_than(file, kObedience, clock_.wall_now())) {
        log().warn("{}: the shim does not obey; killing it and all that it runs", pod);
        store_.kill_shim(*trace);
        watcher_->touch(pod.uid);
        return {};
    }
    if (before && *before <= grace) return {};
    Orders orders = trace->orders;
    orders.stop_grace = grace;
    if (auto ordered = store_.order(pod.uid, orders); !ordered) {
        return fail(ordered.error().with_context("ordering the pod to stop"));
    }
    watcher_->touch(pod.uid);
    return {};
}

Result<void> ProcessProvider::erase(const PodTrace& trace, const PodId& pod) {
    if (trace.stage != Stage::Absent) {
        if (auto erased = store_.erase(pod.uid); !erased)
            return fail(erased.error().with_context("removing the trace"));
    }
    watcher_->report_gone(gone(pod, trace));
    return {};
}

Result<ObservedPod> ProcessProvider::observe(const PodId& pod, const CallContext&) {
    auto trace = settle(store_, pod.uid, clock_.wall_now());
    if (!trace) return fail(trace.error());
    ObservedPod observed = observed_from(*trace);
    observed.id = pod;
    return observed;
}

Result<std::vector<ObservedPod>> ProcessProvider::list(const CallContext&) {
    auto uids = store_.uids();
    if (!uids) return fail(uids.error());
    std::vector<ObservedPod> pods;
    for (const std::string& uid : *uids) {
        auto trace = settle(store_, uid, clock_.wall_now());
        if (!trace) return fail(trace.error());
        if (!is_absent(*trace)) pods.push_back(observed_from(*trace));
    }
    return pods;
}

Result<std::map<std::string, std::string>> ProcessProvider::capacity(const CallContext&) {
    return host_capacity(options_.state_directory, options_.capacity);
}

Result<void> ProcessProvider::logs(const LogRequest& request, LogSink& sink, const CallContext& ctx) {
    auto trace = store_.inspect(request.pod.uid);
    if (!trace) return fail(trace.error());
    if (is_absent(*trace)) {
        return fail(ErrorKind::NotFound, fmt::format("pod \"{}\" does not exist", request.pod.name));
    }
    const auto run = choose_run(*trace, request);
    if (!run) return fail(run.error());
    const auto over = [this, uid = request.pod.uid, container = request.container, wanted = *run] {
        const auto now = store_.inspect(uid);
        return !now || run_is_over(*now, container, wanted);
    };
    const std::string path = store_.paths(request.pod.uid).log(request.container, *run);
    auto done = read_log(path, trace->intent.limits.log_files, request, sink, over, ctx);
    if (done || done.error().kind != ErrorKind::NotFound) return done;
    // A run that could not be started has no log; the error is in its status.
    return sink.begin();
}

Result<PodTrace> ProcessProvider::running(const PodId& pod, const std::string& container) const {
    auto trace = store_.inspect(pod.uid);
    if (!trace) return trace;
    const auto& all = trace->report.processes;
    const bool runs = trace->stage == Stage::Running &&
                      std::any_of(all.begin(), all.end(),
                                  [&](const ProcessMark& mark) { return mark.container == container; });
    if (!runs) return fail(ErrorKind::NotFound, fmt::format("container not found (\"{}\")", container));
    return trace;
}

Result<void> ProcessProvider::attach(const ExecRequest& request, ExecIo& io, const CallContext& ctx) {
    const auto trace = running(request.pod, request.container);
    if (!trace) return fail(trace.error());
    return run_attach(store_.paths(request.pod.uid), trace->shim.pid, request.container, io, ctx);
}

Result<std::string> ProcessProvider::address_of(const PodId& pod, std::uint16_t port) const {
    const auto trace = store_.inspect(pod.uid);
    if (!trace) return fail(trace.error());
    if (trace->stage != Stage::Running) {
        return fail(ErrorKind::NotFound, fmt::format("pod \"{}\" is not running", pod.name));
    }
    const ProcessTable table = read_process_table();
    std::set<pid_t> processes = descendants(table, trace->shim.pid);
    processes.merge(marked(table, pod.uid, ""));
    const auto listening = read_listening();
    if (!listening) return fail(listening.error());
    const auto address = choose_loopback(*listening, port, sockets_of(processes));
    if (address) return *address;
    // What a node says, whose pods have a network of their own: nothing of the pod listens.
    return fail(
        ErrorKind::Unavailable,
        fmt::format("failed to connect to localhost:{0} inside pod {1}, IPv4: dial tcp4 127.0.0.1:{0}: "
                    "connect: connection refused IPv6 dial tcp6 [::1]:{0}: connect: connection refused",
                    port, pod.name));
}

class ProcessProvider::Ports final : public PodPorts {
  public:
    Ports(const ProcessProvider& owner, PodId pod) : owner_(owner), pod_(std::move(pod)) {}

    Result<std::unique_ptr<net::ByteStream>> connect(std::uint16_t port, const CallContext& ctx) override {
        // Who listens is a look at every process of the host: one look serves a burst of connections.
        auto& known = known_[port];
        if (const auto now = ctx.clock().now(); known.until < now) {
            auto address = owner_.address_of(pod_, port);
            if (!address) return fail(address.error());
            known = {*std::move(address), now + kGoodFor};
        }
        auto socket = net::dial(known.address, port, ctx);
        if (!socket) return fail(socket.error());
        return std::unique_ptr<net::ByteStream>(std::make_unique<net::SocketStream>(*std::move(socket)));
    }

  private:
    static constexpr Duration kGoodFor{200};
    struct Known {
        std::string address;
        SteadyTime until{};
    };
    const ProcessProvider& owner_;
    const PodId pod_;
    std::map<std::uint16_t, Known> known_;
};

std::unique_ptr<PodPorts> ProcessProvider::ports_of(const PodId& pod) {
    return std::make_unique<Ports>(*this, pod);
}

Result<StatsReport> ProcessProvider::stats(const CallContext&) {
    return usage_.read(clock_);
}

Result<ExitStatus> ProcessProvider::exec(const ExecRequest& request, ExecIo& io, const CallContext& ctx) {
    auto trace = running(request.pod, request.container);
    if (!trace) return fail(trace.error());
    for (const ContainerIntent& container : trace->intent.containers) {
        if (container.name != request.container) continue;
        SpawnRequest spawned;
        spawned.argv = request.command;
        spawned.environment = container.environment;
        const bool has_term =
            std::any_of(container.environment.begin(), container.environment.end(),
                        [](const std::string& entry) { return entry.rfind("TERM=", 0) == 0; });
        if (request.tty && !has_term) spawned.environment.push_back("TERM=xterm");
        spawned.directory =
            container.directory.empty() ? store_.paths(request.pod.uid).work() : container.directory;
        spawned.identity = container.identity;
        auto exit = run_exec(std::move(spawned), request.tty, io, ctx,
                             [this](pid_t child) { watcher_->adopt(child); });
        if (!exit && exit.error().kind != ErrorKind::Cancelled && exit.error().kind != ErrorKind::Timeout) {
            // The kind is about the command, not about the pod.
            return fail(ErrorKind::Internal, exit.error().message);
        }
        return exit;
    }
    return fail(ErrorKind::NotFound, fmt::format("container not found (\"{}\")", request.container));
}

}  // namespace k8sgpu::providers::process
