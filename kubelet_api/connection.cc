#include "kubelet_api/connection.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>

#include "common/encoding.h"
#include "common/log.h"
#include "common/scope_exit.h"
#include "kubelet_api/router.h"
#include "net/socket_stream.h"

namespace k8sgpu::kubelet_api {

namespace {

constexpr std::size_t kReadBytes = 16U << 10U;
constexpr Duration kRefusalLimit{2'000};
constexpr std::size_t kSkippedAtMost = 4U << 20U;

bool equals_ignoring_case(std::string_view a, std::string_view b) {
    const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; };
    return a.size() == b.size() &&
           std::equal(a.begin(), a.end(), b.begin(), [&](char x, char y) { return lower(x) == lower(y); });
}

bool wants_keep_alive(const net::HttpRequestHead& head) {
    if (head.headers.has_token("connection", "close")) return false;
    return head.minor_version >= 1 || head.headers.has_token("connection", "keep-alive");
}

Unexpected bad_request(int status, std::string message) {
    return fail(Error{ErrorKind::Invalid, std::move(message), status, {}});
}

}  // namespace

Result<std::optional<std::string>> bearer_token(const net::HttpRequestHead& head) {
    const std::string_view header = head.headers.get("authorization");
    const auto blank = header.find(' ');
    if (blank != std::string_view::npos && equals_ignoring_case(header.substr(0, blank), "bearer")) {
        std::string_view token = header.substr(blank + 1);
        while (token.starts_with(' ')) token.remove_prefix(1);
        while (token.ends_with(' ')) token.remove_suffix(1);
        if (!token.empty()) return std::optional<std::string>(token);
    }
    if (!head.is_upgrade_to("websocket")) return std::optional<std::string>();
    const auto offered = head.headers.list("sec-websocket-protocol");
    const auto carries = [](const std::string& name) { return name.starts_with(kBearerProtocolPrefix); };
    const auto found = std::find_if(offered.begin(), offered.end(), carries);
    if (found == offered.end()) return std::optional<std::string>();
    if (std::count_if(offered.begin(), offered.end(), carries) > 1)
        return fail(ErrorKind::Invalid, "several bearer subprotocols");
    if (offered.size() == 1)
        return fail(ErrorKind::Invalid, "a bearer subprotocol without another subprotocol");
    auto token = base64url_decode(std::string_view(*found).substr(kBearerProtocolPrefix.size()));
    if (!token) return fail(token.error().with_context("bearer subprotocol"));
    return std::optional<std::string>(std::move(*token));
}

CallContext Connection::until_stopped(const Session& session) const {
    return CallContext::until_stopped(services_.api.clock, session.token());
}

void Connection::serve(net::Fd fd, Session& session, bool full) {
    const auto endpoint = net::peer_endpoint(fd.get());
    peer_ = fmt::format("{}:{}", endpoint.address, endpoint.port);
    const CallContext ctx = until_stopped(session);
    auto stream = net::TlsStream::accept(std::move(fd), services_.tls,
                                         ctx.with_timeout(full ? kRefusalLimit : limits().handshake));
    if (!stream) {
        log().debug("api: {}: handshake: {}", peer_, stream.error().message);
        if (stream.error().kind != ErrorKind::Cancelled) services_.api.metrics.count_refused("handshake");
        return;
    }
    stream_ = std::move(*stream);
    if (full) {
        services_.api.metrics.count_refused("connections");
        // A client that is answered before it has asked may not look at the answer.
        (void)net::read_request_head(*stream_, ctx.with_timeout(kRefusalLimit), "", {});
        refuse(
            Error{ErrorKind::Unavailable,
                  fmt::format("too many connections: this node serves {} at once", limits().max_connections),
                  503,
                  {}},
            session);
    } else {
        note_certificates();
        watch_ = services_.watcher.watch(stream_->fd(), session.source());
        while (stream_ && serve_one(session) == Next::KeepOpen) {
        }
    }
    watch_.reset();
    if (stream_) (void)stream_->shut_write();
}

void Connection::note_certificates() {
    for (const net::X509Ptr& certificate : stream_->peer_certificates()) {
        unsigned char* der = nullptr;
        const int size = i2d_X509(certificate.get(), &der);
        if (size <= 0) continue;
        certificates_.emplace_back(reinterpret_cast<const char*>(der), static_cast<std::size_t>(size));
        OPENSSL_free(der);
    }
}

// The idle limit counts until a request begins, the head limit from there on.
Result<void> Connection::wait_for_bytes(const CallContext& ctx) {
    if (!early_.empty()) return {};
    early_.resize(kReadBytes);
    auto got = stream_->read({early_.data(), early_.size()}, ctx);
    early_.resize(got ? *got : 0);
    if (!got) return fail(got.error());
    if (*got == 0) return fail(ErrorKind::NotFound, "peer left");
    return {};
}

Connection::Next Connection::serve_one(Session& session) {
    const CallContext ctx = until_stopped(session);
    // Strangers do not get to hold a connection for as long as callers that we know.
    const Duration patience = known_ ? limits().idle : std::min(limits().idle, limits().head);
    if (!wait_for_bytes(ctx.with_timeout(patience))) return Next::Close;
    net::HeadLimits head_limits;
    head_limits.max_bytes = limits().max_head_bytes;
    auto read =
        net::read_request_head(*stream_, ctx.with_timeout(limits().head), std::move(early_), head_limits);
    early_.clear();
    if (!read) {
        if (read.error().kind == ErrorKind::Timeout)
            refuse(Error{ErrorKind::Timeout, "request head took too long", 408, {}}, session);
        if (read.error().http_status) refuse(read.error(), session);
        return Next::Close;
    }
    early_ = std::move(read->early);
    if (auto skipped = skip_body(read->head, ctx.with_timeout(limits().head)); !skipped) {
        if (skipped.error().http_status) refuse(skipped.error(), session);
        return Next::Close;
    }
    return answer(read->head, session);
}

// No route of ours reads a body; what a client sends nevertheless is skipped up to the limit.
Result<void> Connection::skip_body(const net::HttpRequestHead& head, const CallContext& ctx) {
    const auto lengths = head.headers.all("content-length");
    if (head.headers.has("transfer-encoding")) {
        if (!lengths.empty()) return bad_request(400, "both Content-Length and Transfer-Encoding");
        return bad_request(411, "chunked request bodies are not supported; send Content-Length");
    }
    if (lengths.empty()) return {};
    std::size_t left = 0;
    const std::string_view text = lengths.front();
    const auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), left);
    const bool same = std::all_of(lengths.begin(), lengths.end(), [&](auto other) { return other == text; });
    if (status != std::errc() || end != text.data() + text.size() || !same)
        return bad_request(400, "malformed Content-Length");
    if (left > limits().max_body_bytes)
        return bad_request(413, fmt::format("request body of {} bytes; at most {} are taken", left,
                                            limits().max_body_bytes));
    while (left > 0) {
        if (auto some = wait_for_bytes(ctx); !some) return some;
        const std::size_t taken = std::min(left, early_.size());
        early_.erase(0, taken);
        left -= taken;
    }
    return {};
}

// An answer outside of any route, and the end of the connection.
void Connection::refuse(const Error& error, Session& session) {
    const int status = error.http_status.value_or(400);
    log().debug("api: {}: {} {}", peer_, status, error.message);
    services_.api.metrics.count_request("", "other", status);
    const CallContext ctx = until_stopped(session).with_timeout(kRefusalLimit);
    if (!stream_->write(net::write_simple_response(status, error.message + "\n"), ctx)) return;
    // What the client still sends would make the system reset the connection, and the answer be lost with it.
    (void)stream_->shut_write();
    std::array<char, 4096> rest;
    std::size_t skipped = 0;
    while (skipped < kSkippedAtMost) {
        const auto got = stream_->read(rest, ctx);
        if (!got || *got == 0) return;
        skipped += *got;
    }
}

Connection::Next Connection::answer(const net::HttpRequestHead& head, Session& session) {
    ApiMetrics& metrics = services_.api.metrics;
    const auto segments = path_segments(head.path());
    const std::string label = segments ? route_label(*segments) : "other";
    const SteadyTime begun = services_.api.clock.now();
    const bool known_method = head.method == "GET" || head.method == "POST";
    const std::string method = known_method ? head.method : "other";
    prometheus::Gauge& inflight = metrics.inflight.Add(ApiMetrics::labels_of(method, label));
    inflight.Increment();
    const ScopeExit done([&] { inflight.Decrement(); });

    const CallContext ctx = until_stopped(session).with_timeout(limits().request);
    ResponseWriter response(*stream_, head.minor_version, wants_keep_alive(head), limits().write);
    if (head.method == "HEAD") response.leave_out_body();
    User user;
    const auto finish = [&] {
        log().debug("api: {} {} {} by \"{}\": {}", peer_, head.method, head.path(), user.name,
                    response.status());
        metrics.count_request(method, label, response.status(),
                              std::chrono::duration_cast<Duration>(services_.api.clock.now() - begun));
        return stream_ && response.reusable() ? Next::KeepOpen : Next::Close;
    };

    const CallContext deciding = ctx.with_timeout(limits().decision);
    Credentials credentials{certificates_, std::nullopt};
    auto token = bearer_token(head);
    if (token) credentials.bearer = std::move(*token);
    auto caller = token ? services_.authenticator.authenticate(credentials, deciding) : fail(token.error());
    if (!caller) {
        const bool plain = caller.error().kind == ErrorKind::Unauthorized;
        log().log(plain ? spdlog::level::debug : spdlog::level::warn, "api: {}: cannot authenticate: {}",
                  peer_, caller.error().message);
        metrics.count_refused("authentication");
        (void)response.text(401, "Unauthorized", ctx);
        return finish();
    }
    user = std::move(*caller);
    known_ = true;

    // Permissions and routes look at the same decoded segments, so that no spelling of a path passes as
    // another.
    const AccessAttributes attributes =
        access_attributes(head.method, segments && !segments->empty() ? "/" + segments->front() : "/");
    if (auto may = services_.authorizer.authorize(user, attributes, deciding); !may) {
        const bool denied = may.error().kind == ErrorKind::Forbidden;
        metrics.count_refused(denied ? "authorization" : "authorization-error");
        std::string text = may.error().message;
        if (text.ends_with('\n')) text.pop_back();
        (void)response.plain_error(denied ? 403 : 500, text, ctx);
        return finish();
    }
    route(head, segments.value_or(std::vector<std::string>()), user, response, session, ctx);
    return finish();
}

void Connection::route(const net::HttpRequestHead& head, const std::vector<std::string>& segments,
                       const User& user, ResponseWriter& response, Session& session, const CallContext& ctx) {
    RouteMatch found = find_route(head.method, segments);
    switch (found.kind) {
        case RouteMatch::Kind::UnknownRoot:
            (void)response.plain_error(404, "404 page not found", ctx);
            return;
        case RouteMatch::Kind::UnknownPath:
            (void)response.text(404, "404: Page Not Found", ctx);
            return;
        case RouteMatch::Kind::WrongMethod:
            (void)response.text(405, "405: Method Not Allowed", ctx);
            return;
        case RouteMatch::Kind::Found:
            break;
    }
    const Query query(head.query());
    const auto take = [&](int status) {
        watch_.reset();  // from here on the stream session notices when the peer leaves
        response.taken_over(status);
        return RawConnection{std::move(stream_), std::move(early_)};
    };
    Exchange exchange{head, query, user, std::move(found.params), response, session, ctx, take, number_};
    found.handler(exchange, services_.api);
}

}  // namespace k8sgpu::kubelet_api
