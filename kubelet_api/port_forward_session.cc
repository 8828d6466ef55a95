#include "kubelet_api/port_forward_session.h"

#include <fmt/format.h>

#include <map>

#include "common/log.h"
#include "common/thread.h"
#include "kubelet_api/port_pairs.h"
#include "net/relay.h"
#include "providers/port/exec.h"

namespace k8sgpu::kubelet_api {

namespace {

constexpr Duration kErrorLimit{10'000};
constexpr Duration kConnectLimit{30'000};

void tell(net::MuxStream& error, const std::string& text, const CallContext& ctx) {
    if (!text.empty()) (void)error.write(text, ctx.with_timeout(kErrorLimit));
    (void)error.shut_write();
}

void give_up(const PortPair& pair, const std::string& text, const CallContext& ctx) {
    if (pair.error) tell(*pair.error, text, ctx);
    if (pair.data) pair.data->reset();
}

// The connections of one session. begin() is called on the session's own thread and may wait for the backend;
// everything else happens on the thread of the relay.
class Forwarding {
  public:
    Forwarding(const PodView& pod, const PortForwardOptions& options, CallContext ctx, CallContext last_words)
        : pod_(pod),
          options_(options),
          ctx_(std::move(ctx)),
          last_words_(std::move(last_words)),
          ports_(pod.provider->port_forwarder()->ports_of(pod.id)) {
        thread_ = Thread("api-fwd", [this](const std::stop_token&) {
            const auto done = relay_.run(ctx_, [this] { return ending_ && links_.empty(); });
            if (!done && done.error().kind != ErrorKind::Cancelled)
                log().warn("port-forward {}: {}", pod_.id, done.error().message);
        });
    }

    void begin(const PortPair& pair) {
        if (options_.fixed_pairs > 0) {
            const char port[] = {static_cast<char>(pair.port & 0xffU), static_cast<char>(pair.port >> 8U)};
            for (const auto& stream : {pair.data, pair.error}) {
                if (!stream->write({port, sizeof port}, ctx_)) return;
            }
        }
        auto pod = ports_->connect(pair.port, ctx_.with_timeout(kConnectLimit));
        if (!pod) return refuse(pair, pod.error());
        auto link = std::make_shared<Link>();
        link->number = ++last_number_;
        link->pair = pair;
        link->pod = *std::move(pod);
        relay_.post([this, link] { start(link); });
    }

    // Waits for the end of what is under way, or of the context. `reason` is what clients are told then.
    void finish(const std::function<std::string()>& reason) {
        relay_.post([this] { ending_ = true; });
        thread_.join();
        const std::string why = reason();
        for (const auto& [number, link] : links_) {
            relay_.drop(link->forth);
            relay_.drop(link->back);
            tell(*link->pair.error, why, last_words_);
            (void)link->pair.data->shut_write();
            link->pair.data->cancel();
        }
        links_.clear();
    }

  private:
    struct Link {
        std::uint64_t number = 0;
        PortPair pair;
        std::unique_ptr<net::ByteStream> pod;
        net::Relay::Ticket forth = 0, back = 0;
    };
    using LinkPtr = std::shared_ptr<Link>;

    void refuse(const PortPair& pair, const Error& error) {
        log().debug("port-forward {} port={}: {}", pod_.id, pair.port, error.message);
        tell(*pair.error,
             fmt::format("error forwarding port {} to pod {}, uid {}: {}", pair.port, pod_.id.name,
                         pod_.id.uid, error.message),
             last_words_);
        // Only the data stream: a reset of the error stream could overtake the text.
        if (options_.fixed_pairs == 0) pair.data->reset();
        (void)pair.data->shut_write();
        pair.data->cancel();
    }

    void start(const LinkPtr& link) {
        links_.emplace(link->number, link);
        auto back = relay_.copy(*link->pod, *link->pair.data,
                                [this, link](const net::Relay::End& end) { pod_ended(link, end); });
        if (!back) return pod_ended(link, {back.error(), false});
        link->back = *back;
        auto forth = relay_.copy(*link->pair.data, *link->pod,
                                 [this, link](const net::Relay::End& end) { client_ended(link, end); });
        if (!forth) return pod_ended(link, {forth.error(), false});
        link->forth = *forth;
    }

    // The client has no more to say, which is not the end; or it has gone, which is.
    void client_ended(const LinkPtr& link, const net::Relay::End& end) {
        link->forth = 0;
        if (!end.error) {
            (void)link->pod->shut_write();
        } else if (!end.at_destination) {
            remove(link);
        }
        // What the pod no longer takes, its own side explains in a moment.
    }

    void pod_ended(const LinkPtr& link, const net::Relay::End& end) {
        if (end.error && !end.at_destination) {
            refuse(link->pair, *end.error);
        } else {
            (void)link->pair.data->shut_write();
            (void)link->pair.error->shut_write();
        }
        remove(link);
    }

    void remove(const LinkPtr& link) {
        relay_.drop(link->forth);
        relay_.drop(link->back);
        // The client may go on writing for a while: a stream that nobody reads would stop its session.
        link->pair.data->cancel();
        links_.erase(link->number);
        link->pod.reset();
    }

    const PodView& pod_;
    const PortForwardOptions& options_;
    const CallContext ctx_;
    const CallContext last_words_;
    const std::unique_ptr<providers::PodPorts> ports_;
    std::uint64_t last_number_ = 0;
    std::map<std::uint64_t, LinkPtr> links_;  // relay's thread
    bool ending_ = false;                     // relay's thread
    net::Relay relay_;
    Thread thread_;
};

}  // namespace

void serve_port_forward(net::MuxSession& mux, const PortForwardOptions& options, const PodView& pod,
                        Session& session, Clock& clock) {
    session.also_stop_with(mux.ended());
    const std::stop_callback cut(session.kill_token(), [&mux] { mux.cancel(); });
    const CallContext ctx = CallContext::until_stopped(clock, session.token());
    const CallContext last_words = CallContext::until_stopped(clock, session.kill_token());

    PortPairs pairs(options.stream_creation);
    Forwarding forwarding(pod, options, ctx, last_words);
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
    forwarding.finish([&] { return session.reason(); });
    if (mux.ended().stop_requested()) {
        mux.cancel();
        return;
    }
    for (const PortPair& pair : pairs.take_all()) give_up(pair, session.reason(), last_words);
    mux.close(options.linger);
}

}  // namespace k8sgpu::kubelet_api
