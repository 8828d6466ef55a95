#include "vnode/app.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>

#include "common/log.h"
#include "kube/kubeconfig.h"

namespace k8sgpu::vnode {

namespace {

// Left for the end of provider and node, after the statuses.
constexpr Duration kReserve{5'000};

void raise_event(const net::Fd& event) {
    const std::uint64_t one = 1;
    (void)!::write(event.get(), &one, sizeof one);
}

// The signal that waits, or 0.
int next_signal(int signals) {
    signalfd_siginfo info{};
    if (::read(signals, &info, sizeof info) != static_cast<ssize_t>(sizeof info)) return 0;
    return static_cast<int>(info.ssi_signo);
}

}  // namespace

App::App(Command command, std::function<Result<Command>()> read_options, std::string version)
    : command_(std::move(command)),
      read_options_(std::move(read_options)),
      version_(std::move(version)),
      shutdown_grace_(std::in_place, options_.shutdown_grace) {}

App::~App() = default;

int App::run() {
    sigset_t signals;
    sigemptyset(&signals);
    for (const int signal : {SIGTERM, SIGINT, SIGHUP}) sigaddset(&signals, signal);
    pthread_sigmask(SIG_BLOCK, &signals, nullptr);
    std::signal(SIGPIPE, SIG_IGN);
    const net::Fd signal_event(::signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK));
    end_event_ = net::Fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));

    if (auto prepared = prepare(); !prepared) {
        log().error("{}", prepared.error().message);
        return 1;
    }
    startup_ = Thread("startup", [this](std::stop_token stop) { start_node(std::move(stop)); });
    reloader_->start();

    wait_for_end(signal_event.get());
    const std::optional<Error> fatal = *fatal_.lock();
    if (fatal) {
        log().error("{}", fatal->message);
    } else {
        log().info("stopping; pods keep running at the provider");
    }
    take_down(signal_event.get());
    return fatal ? 1 : 0;
}

void App::wait_for_end(int signals) {
    std::array<pollfd, 2> events = {pollfd{signals, POLLIN, 0}, pollfd{end_event_.get(), POLLIN, 0}};
    while (true) {
        if (::poll(events.data(), events.size(), -1) < 0) continue;
        if (events[1].revents != 0) return;
        const int signal = next_signal(signals);
        if (signal == SIGHUP) {
            log().info("SIGHUP: looking for changed files");
            reloader_->force();
        } else if (signal != 0) {
            return;
        }
    }
}

void App::take_down(int signals) {
    const SteadyTime deadline = clock_.now() + *shutdown_grace_.lock();
    std::uint64_t raised = 0;
    (void)!::read(end_event_.get(), &raised, sizeof raised);
    shutdown_ = Thread("shutdown", [this, deadline](std::stop_token) {
        reloader_->stop();
        startup_.stop();
        *waiting_for_.lock() = "the end: k8sgpu is shutting down";
        started_node_ = nullptr;
        if (node_) node_->stop(deadline - kReserve);
        health_.reset();
        node_.reset();
        transport_.reset();
        raise_event(end_event_);
    });
    std::array<pollfd, 2> events = {pollfd{signals, POLLIN, 0}, pollfd{end_event_.get(), POLLIN, 0}};
    while (true) {
        const auto left = std::chrono::duration_cast<Duration>(deadline - clock_.now()).count();
        const int ready =
            ::poll(events.data(), events.size(), static_cast<int>(std::max<std::int64_t>(0, left)));
        if (ready > 0 && events[1].revents != 0) return shutdown_.join();
        const int signal = ready > 0 ? next_signal(signals) : 0;
        const bool again = signal == SIGTERM || signal == SIGINT;
        if (!again && left > 0) continue;
        log().error(again ? "a second signal: ending at once"
                          : "not done after --shutdown-grace-period: ending");
        ::_exit(1);
    }
}

Result<void> App::prepare() {
    if (options_.leader_elect) {
        log().warn(
            "--leader-elect is accepted but has no effect yet: run one replica with strategy Recreate");
    }
    // Before the files are read, so that a change in between is seen.
    reloader_ = std::make_unique<Reloader>(
        clock_, metrics_, reload_targets(),
        [this](const std::string& what, const Result<void>& outcome) { tell_reload(what, outcome); });
    auto remote = load_remote_config(options_);
    if (!remote) return fail(remote.error());
    remote_config_ = std::move(*remote);
    auto local = kube::find_client_config(options_.kubeconfig, {}, kube::process_environment());
    if (!local) return fail(local.error().with_context("local cluster"));
    local_config_ = std::move(*local);
    auto transport = kube::CurlTransport::create(local_config_, clock_, {.user_agent = "k8sgpu/" + version_});
    if (!transport) return fail(transport.error().with_context("local cluster"));
    transport_ = std::move(*transport);
    client_ = std::make_unique<kube::ApiClient>(*transport_);

    health_ = std::make_unique<HealthServer>(live_checks(), ready_checks());
    if (options_.health_bind_address != "0") {
        const auto address = parse_bind_address(options_.health_bind_address);
        if (!address) return fail(address.error());
        return health_->start(address->first, address->second);
    }
    return {};
}

void App::start_node(std::stop_token stop) {
    const auto give_up = [this](const Error& error) {
        if (error.kind == ErrorKind::Cancelled) return;
        *fatal_.lock() = error;
        raise_event(end_event_);
    };
    *waiting_for_.lock() = "the API server " + local_config_.server;
    const auto cluster = wait_for_cluster(*client_, clock_, stop, [this](const Error& why) {
        auto shown = waiting_for_.lock();
        std::string text = fmt::format("the API server {}: {}", local_config_.server, why.message);
        // The server says no more than the word, whether a credential has expired or was never one of its
        // own.
        if (why.kind == ErrorKind::Unauthorized) {
            text += fmt::format("; the credentials of {} have expired or are another cluster's: renew them",
                                local_config_.origin);
        }
        if (text != *shown) log().warn("waiting for {}", text);
        *shown = std::move(text);
    });
    if (!cluster) return give_up(cluster.error());
    *cluster_uid_.lock() = cluster->cluster_uid;
    *waiting_for_.lock() = "the node to start";
    log().info("local cluster {} {} as {}", local_config_.server, cluster->server_version, cluster->username);

    std::string node_ip = options_.node_ip;
    if (node_ip.empty()) {
        const auto server = kube::parse_server_url(local_config_.server);
        if (!server) return give_up(server.error());
        const auto address = address_facing(server->host, server->port);
        if (!address) return give_up(address.error());
        node_ip = *address;
    }
    node_ = std::make_unique<VirtualNode>(
        VirtualNodeInputs{options_, version_, *cluster, node_ip, remote_config_}, clock_, metrics_, *client_);
    if (auto started = node_->start(stop); !started) return give_up(started.error());
    started_node_ = node_.get();
    log().info("node {} at {}:{} forwards pods to provider {}", options_.node_name, node_ip, options_.port,
               to_string(options_.provider));
}

Result<void> App::ask_node(Result<void> (VirtualNode::*question)() const) const {
    const VirtualNode* node = started_node_;
    if (node == nullptr) return fail(ErrorKind::Unavailable, "waiting for " + *waiting_for_.lock());
    return (node->*question)();
}

std::vector<HealthCheck> App::live_checks() {
    return {{"threads", [this]() -> Result<void> {
                 // Waiting for an API server is no reason to be restarted.
                 if (started_node_ == nullptr) return {};
                 return ask_node(&VirtualNode::alive);
             }}};
}

std::vector<HealthCheck> App::ready_checks() {
    return {{"node", [this] { return ask_node(&VirtualNode::node_registered); }},
            {"lease", [this] { return ask_node(&VirtualNode::lease_fresh); }},
            {"pods", [this] { return ask_node(&VirtualNode::pods_synced); }},
            {"certificate", [this] { return ask_node(&VirtualNode::certificate_present); }}};
}

}  // namespace k8sgpu::vnode
