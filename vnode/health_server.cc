#include "vnode/health_server.h"

#include <httplib.h>

#include "common/log.h"
#include "common/thread.h"

#include <thread>

namespace k8sgpu::vnode {
namespace {

void answer(const std::vector<HealthCheck>& checks, const httplib::Request& request,
            httplib::Response& response) {
    std::string lines;
    bool healthy = true;
    for (const HealthCheck& check : checks) {
        const auto result = check.check();
        if (result) {
            lines += fmt::format("[+]{} ok\n", check.name);
        } else {
            healthy = false;
            lines += fmt::format("[-]{} failed: {}\n", check.name, result.error().message);
        }
    }
    response.status = healthy ? 200 : 503;
    const bool detailed = !healthy || request.has_param("verbose");
    response.set_content(detailed ? lines + (healthy ? "check passed\n" : "check failed\n") : "ok",
                         "text/plain");
}

}  // namespace

struct HealthServer::Impl {
    std::vector<HealthCheck> live;
    std::vector<HealthCheck> ready;
    httplib::Server server;
    int port = 0;
    Thread thread;
};

HealthServer::HealthServer(std::vector<HealthCheck> live, std::vector<HealthCheck> ready)
    : impl_(std::make_unique<Impl>()) {
    impl_->live = std::move(live);
    impl_->ready = std::move(ready);
    impl_->server.new_task_queue = [] { return new httplib::ThreadPool(2); };
    impl_->server.set_payload_max_length(1024);
    impl_->server.Get("/healthz", [this](const httplib::Request& request, httplib::Response& response) {
        answer(impl_->live, request, response);
    });
    impl_->server.Get("/readyz", [this](const httplib::Request& request, httplib::Response& response) {
        answer(impl_->ready, request, response);
    });
}

HealthServer::~HealthServer() {
    stop();
}

Result<void> HealthServer::start(const std::string& host, std::uint16_t port) {
    const std::string address = host.empty() ? "0.0.0.0" : host;
    impl_->server.set_socket_options([](socket_t socket) {
        // Not SO_REUSEPORT, cpp-httplib's choice: a second agent on the same port must be told, not share it.
        const int on = 1;
        ::setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    });
    if (port == 0) {
        impl_->port = impl_->server.bind_to_any_port(address.c_str());
    } else {
        impl_->port = impl_->server.bind_to_port(address.c_str(), port) ? port : -1;
    }
    if (impl_->port <= 0) {
        return fail(
            ErrorKind::AlreadyExists,
            fmt::format(
                "--health-probe-bind-address: cannot listen on {}:{}; is another k8sgpu running? choose "
                "another port, or 0 for none",
                address, port));
    }
    impl_->thread = Thread("health", [this](std::stop_token) { impl_->server.listen_after_bind(); });
    // stop() is lost on a server that does not listen yet.
    while (!impl_->server.is_running()) std::this_thread::yield();
    return {};
}

std::uint16_t HealthServer::port() const {
    return static_cast<std::uint16_t>(impl_->port);
}

void HealthServer::stop() {
    impl_->server.stop();
    impl_->thread.stop();
}

}  // namespace k8sgpu::vnode
