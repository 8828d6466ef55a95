#include "kubelet_api/port_forward_session.h"

#include <fmt/format.h>

#include <atomic>
#include <list>
#include <system_error>

#include "common/log.h"
#include "common/thread.h"
#include "kubelet_api/port_pairs.h"
#include "providers/port/exec.h"

namespace k8sgpu::kubelet_api {

namespace {

constexpr Duration kErrorLimit{10'000};

void tell(net::MuxStream& error, const std::string& text, const CallContext& ctx) {
    (void)error.write(text, ctx.with_timeout(kErrorLimit));
    (void)error.shut_write();
}

void give_up(const PortPair& pair, const std::string& text, const CallContext& ctx) {
    if (pair.error) tell(*pair.error, text, ctx);
    if (pair.data) pair.data->reset();
}

class Forwarding {
  public:
    Forwarding(const PodView& pod, const PortForwardOptions& options, CallContext ctx)
        : pod_(pod), options_(options), ctx_(std::move(ctx)) {}

    void begin(const PortPair& pair) {
        workers_.remove_if([](const Worker& worker) { return worker.done.load(); });
        Worker& worker = workers_.emplace_back();
        try {
            worker.thread = Thread("api-fwd", [this, &worker, pair](std::stop_token) {
                forward(pair);
                worker.done = true;
            });
        } catch (const std::system_error& e) {
            workers_.pop_back();
            give_up(pair, fmt::format("error forwarding port {}: {}", pair.port, e.what()), ctx_);
        }
    }
    void join() { workers_.clear(); }

  private:
    struct Worker {
        std::atomic<bool> done{false};
        Thread thread;
    };

    void forward(const PortPair& pair) {
        if (options_.fixed_pairs > 0) {
            const char port[] = {static_cast<char>(pair.port & 0xffU), static_cast<char>(pair.port >> 8U)};
            for (const auto& stream : {pair.data, pair.error}) {
                if (!stream->write({port, sizeof port}, ctx_)) return;
            }
        }
        const auto done = pod_.provider->port_forwarder()->forward(pod_.id, pair.port, *pair.data, ctx_);
        if (done || done.error().kind == ErrorKind::Cancelled) {
            (void)pair.data->shut_write();
            (void)pair.error->shut_write();
            return;
        }
        log().debug("port-forward {} port={}: {}", pod_.id, pair.port, done.error().message);
        tell(*pair.error,
             fmt::format("error forwarding port {} to pod {}, uid {}: {}", pair.port, pod_.id.name,
                         pod_.id.uid, done.error().message),
             ctx_);
        // Only the data stream: a reset of the error stream could overtake the text.
        if (options_.fixed_pairs == 0) pair.data->reset();
        (void)pair.data->shut_write();
    }

    const PodView& pod_;
    const PortForwardOptions& options_;
    CallContext ctx_;
    std::list<Worker> workers_;
};

}  // namespace

void serve_port_forward(net::MuxSession& mux, const PortForwardOptions& options, const PodView& pod,
                        Session& session, Clock& clock) {
    session.also_stop_with(mux.ended());
    const std::stop_callback cut(session.kill_token(), [&mux] { mux.cancel(); });
    const CallContext ctx = CallContext::until_stopped(clock, session.token());

    PortPairs pairs(options.stream_creation);
    Forwarding forwarding(pod, options, ctx);
    std::size_t begun = 0;
    while (options.fixed_pairs == 0 || begun < options.fixed_pairs) {
        auto stream = mux.accept(CallContext(clock, pairs.next_deadline(), session.token()));
        for (const PortPair& late : pairs.take_expired(clock.now())) {
            give_up(late, fmt::format("(request={}) timed out waiting for streams", late.request_id), ctx);
        }
        if (!stream) {
            if (stream.error().kind == ErrorKind::Timeout) continue;
            break;
        }
        auto added = pairs.add(*stream, clock.now());
        if (!added.problem.empty()) {
            log().debug("port-forward {}: {}", pod.id, added.problem);
            (*stream)->reset();
        }
        if (!added.complete) continue;
        forwarding.begin(*added.complete);
        ++begun;
    }
    forwarding.join();
    if (mux.ended().stop_requested()) {
        mux.cancel();
        return;
    }
    for (const PortPair& pair : pairs.take_all()) give_up(pair, session.reason(), ctx);
    mux.close(options.linger);
}

}  // namespace k8sgpu::kubelet_api
