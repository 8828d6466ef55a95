#include "kubelet_api/response_writer.h"

#include <fmt/format.h>

namespace k8sgpu::kubelet_api {

namespace {

constexpr std::string_view kPlain = "text/plain; charset=utf-8";

}  // namespace

Result<void> ResponseWriter::text(int status, std::string_view body, const CallContext& ctx,
                                  net::HeaderLines more) {
    return send(status, kPlain, body, ctx, std::move(more));
}

Result<void> ResponseWriter::plain_error(int status, std::string_view body, const CallContext& ctx) {
    return send(status, kPlain, std::string(body) + "\n", ctx, {{"X-Content-Type-Options", "nosniff"}});
}

Result<void> ResponseWriter::send(int status, std::string_view content_type, std::string_view body,
                                  const CallContext& ctx, net::HeaderLines more) {
    status_ = status;
    net::HeaderLines lines = std::move(more);
    lines.emplace_back("Content-Type", content_type);
    lines.emplace_back("Content-Length", std::to_string(body.size()));
    if (!keep_alive_) lines.emplace_back("Connection", "close");
    std::string bytes = net::write_response_head(status, lines);
    if (with_body_) bytes.append(body);
    auto sent = put(bytes, ctx.with_timeout(limit_));
    complete_ = sent.has_value();
    return sent;
}

Result<void> ResponseWriter::begin(int status, std::string_view content_type, const CallContext& ctx) {
    status_ = status;
    chunked_ = minor_version_ >= 1;
    if (!chunked_) keep_alive_ = false;  // HTTP/1.0: the end of the connection is the end of the body
    net::HeaderLines lines = {{"Content-Type", std::string(content_type)}};
    if (chunked_) lines.emplace_back("Transfer-Encoding", "chunked");
    if (!keep_alive_) lines.emplace_back("Connection", "close");
    return put(net::write_response_head(status, lines), ctx);
}

Result<void> ResponseWriter::write(std::string_view bytes, const CallContext& ctx) {
    if (bytes.empty() || !with_body_) return {};  // an empty chunk would end the body
    if (!chunked_) return put(bytes, ctx);
    return put(fmt::format("{:x}\r\n{}\r\n", bytes.size(), bytes), ctx);
}

Result<void> ResponseWriter::end(const CallContext& ctx) {
    auto ended = chunked_ && with_body_ ? put("0\r\n\r\n", ctx.with_timeout(limit_)) : Result<void>();
    complete_ = ended.has_value();
    return ended;
}

Result<void> ResponseWriter::put(std::string_view bytes, const CallContext& ctx) {
    return stream_.write(bytes, ctx);
}

int status_of(const Error& error) {
    switch (error.kind) {
        case ErrorKind::NotFound:
            return 404;
        case ErrorKind::Throttled:
            return 429;
        case ErrorKind::Unsupported:
            return 501;
        default:
            return 500;
    }
}

}  // namespace k8sgpu::kubelet_api
