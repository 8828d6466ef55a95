#include "kube/curl_transport.h"

#include "kube/internal/curl_connection.h"
#include "kube/internal/curl_exchange.h"
#include "kube/internal/curl_loop.h"
#include "net/http_head.h"

namespace k8sgpu::kube {
namespace {

constexpr Duration kErrorBodyTimeout{5'000};
constexpr std::size_t kMaxErrorBody = 64U << 10U;

Result<std::shared_ptr<Endpoint>> make_endpoint(ClientConfig config, Clock& clock) {
    ensure_curl();
    auto address = parse_server_url(config.server);
    if (!address) return fail(address.error().with_context("server of " + config.origin));
    return std::make_shared<Endpoint>(std::move(config), std::move(*address), clock);
}

class CurlStream final : public ResponseStream {
  public:
    CurlStream(std::shared_ptr<Exchange> exchange, CurlLoop& loop)
        : exchange_(std::move(exchange)),
          loop_(loop),
          status_(exchange_->status()),
          headers_(exchange_->headers()) {}
    ~CurlStream() override { loop_.remove(exchange_); }

    int status() const override { return status_; }
    const Headers& headers() const override { return headers_; }
    Result<std::string> next(const CallContext& ctx) override {
        bool resume = false;
        auto chunk = exchange_->next(ctx, &resume);
        if (resume) loop_.resume(exchange_);
        return chunk;
    }
    void cancel() override {
        exchange_->cancel();
        loop_.remove(exchange_);
    }

  private:
    const std::shared_ptr<Exchange> exchange_;
    CurlLoop& loop_;
    const int status_;
    const Headers headers_;
};

// What an upgrade was answered with: the connection, or the response that refused it.
struct UpgradeAnswer {
    Response response;
    std::unique_ptr<CurlConnection> connection;
};

Headers to_headers(const net::HttpHeaders& lines) {
    Headers headers;
    for (const auto& [name, value] : lines.lines()) headers.emplace(name, value);
    return headers;
}

// The body behind a refusal, as far as it comes soon: by Content-Length, chunked, or until the peer closes.
std::string read_refusal(CurlConnection& connection, const net::HttpHeaders& headers, std::string body,
                         const CallContext& ctx) {
    const CallContext soon = ctx.with_timeout(kErrorBodyTimeout);
    const bool chunked = headers.has_token("transfer-encoding", "chunked");
    std::size_t wanted = kMaxErrorBody;
    if (headers.has("content-length")) {
        const unsigned long length =
            std::strtoul(std::string(headers.get("content-length")).c_str(), nullptr, 10);
        wanted = std::min<std::size_t>(wanted, length);
    }
    char chunk[4096];
    while (body.size() < wanted && !(chunked && body.ends_with("0\r\n\r\n"))) {
        const auto got = connection.read(chunk, soon);
        if (!got || *got == 0) break;
        body.append(chunk, *got);
    }
    if (!chunked) return body.substr(0, wanted);
    std::string plain;
    for (std::size_t at = 0; at < body.size();) {
        const std::size_t line_end = body.find("\r\n", at);
        if (line_end == std::string::npos) break;
        const unsigned long size = std::strtoul(body.c_str() + at, nullptr, 16);
        if (size == 0 || size > kMaxErrorBody) break;
        plain += body.substr(line_end + 2, size);
        at = line_end + 2 + size + 2;
    }
    return plain;
}

Result<UpgradeAnswer> try_upgrade(const Request& request, const std::shared_ptr<Endpoint>& endpoint,
                                  const Credential& credential, const CurlTransportOptions& options,
                                  const CallContext& ctx) {
    auto headers = request_headers(request, *endpoint, credential, options);
    if (!headers) return fail(headers.error());
    headers->erase("content-length");
    if (request.method != "GET") headers->emplace("content-length", std::to_string(request.body.size()));
    auto connection = CurlConnection::connect(endpoint, credential, options, ctx);
    if (!connection) return fail(connection.error());
    const net::HeaderLines lines(headers->begin(), headers->end());
    const std::string head =
        net::write_request_head(request.method, endpoint->address.prefix + request.path, lines);
    if (auto written = (*connection)->write(head + request.body, ctx); !written) return fail(written.error());
    auto answer = net::read_response_head(**connection, ctx);
    if (!answer) return fail(answer.error().with_context("upgrading at " + endpoint->address.host_port()));

    UpgradeAnswer result;
    result.response.status = answer->head.status;
    result.response.headers = to_headers(answer->head.headers);
    if (answer->head.status == 101) {
        (*connection)->push_back(std::move(answer->early));
        result.connection = std::move(*connection);
    } else {
        result.response.body =
            read_refusal(**connection, answer->head.headers, std::move(answer->early), ctx);
    }
    return result;
}

}  // namespace

Result<std::unique_ptr<CurlTransport>> CurlTransport::create(ClientConfig config, Clock& clock,
                                                             CurlTransportOptions options) {
    auto endpoint = make_endpoint(std::move(config), clock);
    if (!endpoint) return fail(endpoint.error());
    return std::unique_ptr<CurlTransport>(new CurlTransport(std::move(*endpoint), clock, std::move(options)));
}

CurlTransport::CurlTransport(std::shared_ptr<Endpoint> endpoint, Clock& clock, CurlTransportOptions options)
    : clock_(clock),
      options_(std::move(options)),
      endpoint_(std::in_place, std::move(endpoint)),
      loop_(std::make_unique<CurlLoop>()) {}

CurlTransport::~CurlTransport() = default;

Result<void> CurlTransport::reconfigure(ClientConfig config) {
    auto endpoint = make_endpoint(std::move(config), clock_);
    if (!endpoint) return fail(endpoint.error());
    std::shared_ptr<Endpoint> old = std::move(*endpoint);
    std::swap(*endpoint_.lock(), old);  // the old one's plugin thread is joined outside the lock
    return {};
}

void CurlTransport::stop() {
    loop_->stop();
}

// Tries once more when the server says 401 and the credentials turn out to have changed since.
template <typename Answer, typename Attempt, typename Status>
Result<Answer> CurlTransport::with_fresh_credentials(const CallContext& ctx, Attempt attempt,
                                                     Status status_of) {
    const std::shared_ptr<Endpoint> endpoint = *endpoint_.lock();
    auto credential = endpoint->credentials.get(ctx);
    if (!credential) return fail(credential.error());
    Result<Answer> answer = attempt(endpoint, *credential);
    if (!answer || status_of(*answer) != 401) return answer;
    endpoint->credentials.reject(credential->version);
    const auto fresh = endpoint->credentials.get(ctx);
    if (!fresh || fresh->version == credential->version) return answer;
    return attempt(endpoint, *fresh);
}

Result<Response> CurlTransport::send(const Request& request, const CallContext& ctx) {
    return with_fresh_credentials<Response>(
        ctx,
        [&](const auto& endpoint, const Credential& credential) -> Result<Response> {
            auto exchange = Exchange::make(request, endpoint, credential, options_, Exchange::Mode::Collect);
            if (!exchange) return fail(exchange.error());
            loop_->add(*exchange);
            auto response = (*exchange)->wait_done(ctx);
            if (!response) loop_->remove(*exchange);
            return response;
        },
        [](const Response& response) { return response.status; });
}

Result<std::unique_ptr<ResponseStream>> CurlTransport::open(const Request& request, const CallContext& ctx) {
    using Stream = std::unique_ptr<ResponseStream>;
    return with_fresh_credentials<Stream>(
        ctx,
        [&](const auto& endpoint, const Credential& credential) -> Result<Stream> {
            auto exchange = Exchange::make(request, endpoint, credential, options_, Exchange::Mode::Stream);
            if (!exchange) return fail(exchange.error());
            loop_->add(*exchange);
            if (auto head = (*exchange)->wait_head(ctx); !head) {
                loop_->remove(*exchange);
                return fail(head.error());
            }
            return Stream(std::make_unique<CurlStream>(*exchange, *loop_));
        },
        [](const Stream& stream) { return stream->status(); });
}

Result<Upgraded> CurlTransport::upgrade(const Request& request, const CallContext& ctx) {
    auto answer = with_fresh_credentials<UpgradeAnswer>(
        ctx,
        [&](const auto& endpoint, const Credential& credential) {
            return try_upgrade(request, endpoint, credential, options_, ctx);
        },
        [](const UpgradeAnswer& upgraded) { return upgraded.response.status; });
    if (!answer) return fail(answer.error());
    Response& response = answer->response;
    if (answer->connection != nullptr)
        return Upgraded{std::move(response.headers), std::move(answer->connection)};
    if (response.status >= 400)
        return fail(error_from_response(response.status, response.headers, response.body));
    return fail(Error{ErrorKind::Protocol,
                      "upgrade answered with http status " + std::to_string(response.status),
                      response.status,
                      {}});
}

}  // namespace k8sgpu::kube
