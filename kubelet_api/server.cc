#include "kubelet_api/server.h"

#include <atomic>
#include <condition_variable>
#include <list>
#include <system_error>

#include "common/guarded.h"
#include "common/log.h"
#include "common/thread.h"
#include "kubelet_api/connection.h"
#include "net/listener.h"

namespace k8sgpu::kubelet_api {

namespace {

// Beyond the cap this many more connections are told so before they are closed; the rest is closed at once.
constexpr std::size_t kRefusing = 16;
// How long sessions may take to say why they end when the server stops.
constexpr Duration kStopGrace{3'000};

}  // namespace

struct Server::Impl {
    Impl(Clock& clock_, ServerOptions options_, net::TlsServerContext& tls, Authenticator& authenticator,
         Authorizer& authorizer, const PodLookup& pods, MetricsRegistry& registry, HealthCheck health_)
        : clock(clock_),
          options(std::move(options_)),
          metrics(registry),
          health(std::move(health_)),
          watcher(clock),
          stats(clock, pods),
          api{clock,    options, pods,
              registry, metrics, sessions,
              health,   stats,   std::make_shared<net::BufferPool>(options.limits.spare_of_all)},
          services{api, tls, authenticator, authorizer, watcher} {}

    struct Worker {
        Thread thread;
        bool done = false;
    };
    struct Workers {
        std::list<Worker> all;
        std::size_t running = 0;
        bool stopping = false;
    };

    void accept_loop(std::stop_token stop) {
        const auto ctx = CallContext::until_stopped(clock, stop);
        int number = 0;
        while (true) {
            auto fd = listener->accept(ctx);
            if (!fd) {
                if (fd.error().kind != ErrorKind::Cancelled)
                    log().critical("api: accepting connections ended: {}", fd.error().message);
                return;
            }
            take(std::move(*fd), ++number);
        }
    }

    void take(net::Fd fd, int number) {
        auto locked = workers.lock();
        const std::size_t cap = options.limits.max_connections;
        if (locked->stopping || locked->running >= cap + kRefusing) {
            metrics.count_refused("connections");
            return;
        }
        const bool full = locked->running >= cap;
        ++locked->running;
        metrics.connections.Set(static_cast<double>(locked->running));
        Worker& worker = locked->all.emplace_back();
        try {
            worker.thread =
                Thread("api-conn-" + std::to_string(number % 100'000),
                       [this, &worker, full, number, fd = std::make_shared<net::Fd>(std::move(fd))](
                           std::stop_token) { work(worker, std::move(*fd), number, full); });
        } catch (const std::system_error& e) {
            // No thread to be had: this connection is lost, the daemon is not.
            log().error("api: starting a thread: {}", e.what());
            locked->all.pop_back();
            --locked->running;
            metrics.count_refused("threads");
            return;
        }
        std::list<Worker> finished;
        for (auto it = locked->all.begin(); it != locked->all.end();) {
            const auto next = std::next(it);
            if (it->done) finished.splice(finished.end(), locked->all, it);
            it = next;
        }
        locked.unlock();
        finished.clear();  // joins threads that have nothing left to do
    }

    void work(Worker& worker, net::Fd fd, int number, bool full) {
        try {
            const auto session = sessions.enter("");
            Connection(services, number).serve(std::move(fd), *session, full);
        } catch (const std::exception& e) {
            // Out of memory or threads: one connection's trouble is not the daemon's.
            log().error("api: connection {} ended by an exception: {}", number, e.what());
        }
        auto locked = workers.lock();
        --locked->running;
        metrics.connections.Set(static_cast<double>(locked->running));
        worker.done = true;
        changed.notify_all();
    }

    void stop() {
        {
            auto locked = workers.lock();
            if (locked->stopping) return;
            locked->stopping = true;
        }
        if (listener) listener->cancel();
        accepting.stop();
        sessions.stop_all("the node agent is shutting down");
        {
            auto locked = workers.lock();
            locked.wait_until(clock, changed, clock.now() + kStopGrace, std::stop_token(),
                              [&] { return locked->running == 0; });
        }
        sessions.kill_all();
        std::list<Worker> last;
        std::swap(last, workers.lock()->all);
        last.clear();
        watcher.stop();
    }

    Clock& clock;
    const ServerOptions options;
    ApiMetrics metrics;
    HealthCheck health;
    SessionRegistry sessions;
    HangupWatcher watcher;
    StatsCollector stats;
    ApiContext api;
    ConnectionServices services;
    std::unique_ptr<net::Listener> listener;
    std::condition_variable_any changed;
    Guarded<Workers> workers;
    Thread accepting;
};

Server::Server(Clock& clock, ServerOptions options, net::TlsServerContext& tls, Authenticator& authenticator,
               Authorizer& authorizer, const PodLookup& pods, MetricsRegistry& metrics, HealthCheck health)
    : impl_(std::make_unique<Impl>(clock, std::move(options), tls, authenticator, authorizer, pods, metrics,
                                   std::move(health))) {}

Server::~Server() {
    stop();
}

Result<void> Server::start() {
    auto listener = net::Listener::open(impl_->options.address, impl_->options.port);
    if (!listener) return fail(listener.error().with_context("kubelet API"));
    impl_->listener = std::move(*listener);
    impl_->watcher.start();
    impl_->accepting =
        Thread("api-accept", [impl = impl_.get()](std::stop_token stop) { impl->accept_loop(stop); });
    log().info("kubelet API listens on port {}", impl_->listener->port());
    return {};
}

std::uint16_t Server::port() const {
    return impl_->listener ? impl_->listener->port() : std::uint16_t{0};
}

void Server::cancel_pod(const std::string& uid, const std::string& reason) {
    if (!impl_->sessions.stop_pod(uid, reason)) return;
    impl_->watcher.after(impl_->options.limits.drain,
                         [impl = impl_.get(), uid, reason] { impl->sessions.stop_draining(uid, reason); });
}

void Server::stop() {
    impl_->stop();
}

}  // namespace k8sgpu::kubelet_api
