#include <fmt/format.h>

#include <atomic>

#include "common/log.h"
#include "kubelet_api/log_query.h"
#include "kubelet_api/pod_containers.h"
#include "kubelet_api/routes/routes.h"
#include "providers/port/logs.h"

namespace k8sgpu::kubelet_api::routes {

namespace {

class ResponseSink final : public providers::LogSink {
  public:
    ResponseSink(ResponseWriter& response, const CallContext& ctx) : response_(response), ctx_(ctx) {}

    Result<void> begin() override {
        if (begun_) return {};
        begun_ = true;
        return response_.begin(200, "text/plain", ctx_);
    }
    Result<void> write(std::string_view bytes) override {
        if (auto ready = begin(); !ready) return ready;
        return response_.write(bytes, ctx_);
    }
    bool begun() const { return begun_; }

  private:
    ResponseWriter& response_;
    const CallContext& ctx_;
    std::atomic<bool> begun_{false};
};

// What the state of a pod forbids is 400, as the kubelet has it; what is not there 404; a backend that is
// away 500.
int log_error_status(const Error& error) {
    return error.kind == ErrorKind::Invalid ? 400 : status_of(error);
}

std::string_view name_of(providers::LogStreams streams) {
    return streams == providers::LogStreams::Stdout ? "Stdout" : "Stderr";
}

}  // namespace

void container_logs(Exchange& exchange, ApiContext& api) {
    ResponseWriter& response = exchange.response;
    const std::string& pod_name = exchange.param("pod");
    const std::string& container = exchange.param("container");
    const auto answer = [&](int status, std::string_view body) {
        (void)response.text(status, body, exchange.ctx);
    };
    if (pod_name.empty()) return answer(400, R"({"message": "Missing podID."})");
    if (container.empty()) return answer(400, R"({"message": "Missing container name."})");
    if (exchange.param("ns").empty()) return answer(400, R"({"message": "Missing podNamespace."})");

    auto query = decode_log_query(exchange.query);
    if (!query) return answer(query.error().http_status.value_or(400), query.error().message);
    const auto view = api.pods.find(exchange.param("ns"), pod_name);
    if (!view) return answer(404, fmt::format("pod \"{}\" does not exist", pod_name));
    if (!has_container(*view->pod, container))
        return answer(404, fmt::format("container \"{}\" not found in pod \"{}\"", container, pod_name));
    providers::LogSource* source = view->provider->logs();
    if (query->streams != providers::LogStreams::All && source != nullptr && !source->splits_streams())
        return answer(400, fmt::format("unable to return the given log stream: \"{}\". Please enable "
                                       "PodLogsQuerySplitStreams feature gate in kubelet",
                                       name_of(query->streams)));
    if (auto available = check_log_available(*view->pod, container, query->previous); !available)
        return answer(400, available.error().message);
    if (source == nullptr)
        return answer(501, fmt::format("provider {} keeps no logs", view->provider->name()));

    const auto session = api.sessions.enter(view->id.uid, PodGone::LetsItDrain);
    session->also_stop_with(exchange.connection.token());
    const CallContext ctx = exchange.ctx.with_stop(session->token());
    query->pod = view->id;
    query->container = container;
    ResponseSink sink(response, ctx);
    const auto done = source->logs(*query, sink, ctx);
    // A pod that was removed, or a limit of ours, ends a followed log in order; a source that breaks leaves
    // the body unfinished, so that the reader knows that something is missing.
    const bool ended_by_us =
        !done && (done.error().kind == ErrorKind::Cancelled || exchange.ctx.remaining() == Duration::zero());
    if (!sink.begun()) {
        if (!done) {
            const std::string why = session->reason();
            return answer(log_error_status(done.error()), why.empty() ? done.error().message : why);
        }
        (void)sink.begin();
    }
    if (done || ended_by_us) {
        (void)response.end(exchange.ctx);
        return;
    }
    log().warn("{} container={}: log ended early: {}", view->id, container, done.error().message);
    response.do_not_reuse();
}

}  // namespace k8sgpu::kubelet_api::routes
