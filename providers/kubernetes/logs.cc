#include "providers/kubernetes/logs.h"

#include <fmt/format.h>

#include "common/encoding.h"
#include "kube/api_client.h"
#include "providers/kubernetes/status_map.h"

namespace k8sgpu::providers::kubernetes {
std::string log_path(const RemoteAddress& pod, const LogRequest& request) {
    std::string path = kube::resource_path(kube::resources::kPods, pod.ns, pod.name, "log");
    char separator = '?';
    const auto add = [&](std::string_view key, std::string_view value) {
        path += fmt::format("{}{}={}", separator, key, url_encode(value));
        separator = '&';
    };
    if (!request.container.empty()) add("container", request.container);
    if (request.follow) add("follow", "true");
    if (request.previous) add("previous", "true");
    if (request.timestamps) add("timestamps", "true");
    if (request.tail_lines) add("tailLines", std::to_string(*request.tail_lines));
    if (request.limit_bytes) add("limitBytes", std::to_string(*request.limit_bytes));
    if (request.since_seconds) add("sinceSeconds", std::to_string(*request.since_seconds));
    if (request.since_time) add("sinceTime", rfc3339_nanos(*request.since_time));
    return path;
}

Result<void> RemoteLogs::logs(const LogRequest& request, LogSink& sink, const CallContext& ctx) {
    auto pod = locator_.locate(request.pod, ctx);
    if (!pod) return fail(pod.error());
    kube::Request call;
    call.path = log_path(*pod, request);
    auto stream = remote_.open(call, ctx);
    if (!stream) return fail(stream.error().with_context("reading the remote log"));
    const int status = (*stream)->status();
    if (status != 200 && status < 400) {
        return fail(ErrorKind::Protocol, fmt::format("reading the remote log: http status {}", status));
    }
    if (status >= 400) {
        Error error =
            kube::error_from_response(status, (*stream)->headers(), kube::read_error_body(**stream, ctx));
        error.message = localize(std::move(error.message), request.pod, pod->ns, pod->uid);
        return fail(std::move(error));
    }
    if (auto begun = sink.begin(); !begun) return begun;
    while (true) {
        auto chunk = (*stream)->next(ctx);
        if (!chunk) return fail(chunk.error());
        if (chunk->empty()) return {};
        if (auto written = sink.write(*chunk); !written) return written;
    }
}

}  // namespace k8sgpu::providers::kubernetes
