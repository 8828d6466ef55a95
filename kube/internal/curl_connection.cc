#include "kube/internal/curl_connection.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <climits>

#include "net/socket_stream.h"

namespace k8sgpu::kube {
namespace {

// TLS may, rarely, have to write before it can read or the other way round, and libcurl does not say which:
// no wait is longer than this before the operation is tried again.
constexpr Duration kWaitSlice{1000};

}  // namespace

Result<std::unique_ptr<CurlConnection>> CurlConnection::connect(std::shared_ptr<Endpoint> endpoint,
                                                                const Credential& credential,
                                                                const CurlTransportOptions& options,
                                                                const CallContext& ctx) {
    std::unique_ptr<CurlConnection> connection(new CurlConnection(endpoint));
    auto easy =
        make_easy("/", *endpoint, credential, options, connection->error_buffer_, connection->connect_to_);
    if (!easy) return fail(easy.error());
    connection->easy_ = std::move(*easy);
    curl_easy_setopt(connection->easy_.get(), CURLOPT_CONNECT_ONLY, 1L);
    // Through an HTTP proxy a plain-text server would otherwise get the proxy's ear instead of its own.
    curl_easy_setopt(connection->easy_.get(), CURLOPT_HTTPPROXYTUNNEL, 1L);
    if (auto connected = connection->run_connect(ctx); !connected) return fail(connected.error());
    return connection;
}

Result<void> CurlConnection::run_connect(const CallContext& ctx) {
    multi_ = curl_multi_init();
    if (multi_ == nullptr || curl_multi_add_handle(multi_, easy_.get()) != CURLM_OK)
        return fail(ErrorKind::Internal, "out of memory");
    const std::stop_callback wake(ctx.stop(), [this] { curl_multi_wakeup(multi_); });
    while (true) {
        if (auto alive = ctx.check(); !alive)
            return fail(alive.error().with_context("connecting to " + endpoint_->address.host_port()));
        int running = 0;
        curl_multi_perform(multi_, &running);
        int left = 0;
        while (CURLMsg* message = curl_multi_info_read(multi_, &left)) {
            if (message->msg != CURLMSG_DONE) continue;
            const CURLcode code = message->data.result;
            if (code != CURLE_OK)
                return fail(error_from_curl(code, easy_.get(), error_buffer_.data(), *endpoint_));
            curl_easy_getinfo(easy_.get(), CURLINFO_ACTIVESOCKET, &socket_);
            if (socket_ == CURL_SOCKET_BAD) return fail(ErrorKind::Internal, "libcurl lost the connection");
            return {};
        }
        const auto wait = std::min<Duration::rep>(ctx.remaining().count(), kWaitSlice.count());
        curl_multi_poll(multi_, nullptr, 0, static_cast<int>(wait) + 1, nullptr);
    }
}

CurlConnection::~CurlConnection() {
    if (multi_ == nullptr) return;
    curl_multi_remove_handle(multi_, easy_.get());
    easy_.reset();
    curl_multi_cleanup(multi_);
}

Result<void> CurlConnection::wait(net::Waker& waker, short events, const CallContext& ctx) {
    auto ready = waker.wait(socket_, events, ctx.with_timeout(kWaitSlice));
    if (!ready && ready.error().kind == ErrorKind::Timeout) return ctx.check();
    return ready;
}

Error CurlConnection::broken(CURLcode code) const {
    return {ErrorKind::Unavailable,
            "connection to " + endpoint_->address.host_port() + " broke: " + curl_easy_strerror(code),
            {},
            {}};
}

Result<std::size_t> CurlConnection::read(std::span<char> buffer, const CallContext& ctx) {
    if (!early_.empty()) {
        const std::size_t count = std::min(buffer.size(), early_.size());
        std::copy_n(early_.begin(), count, buffer.begin());
        early_.erase(0, count);
        return count;
    }
    while (true) {
        if (reader_.cancelled()) return fail(ErrorKind::Cancelled, "stream cancelled");
        if (auto alive = ctx.check(); !alive) return fail(alive.error());
        std::size_t got = 0;
        CURLcode code = CURLE_OK;
        {
            const std::lock_guard lock(mutex_);
            code = curl_easy_recv(easy_.get(), buffer.data(), buffer.size(), &got);
        }
        if (code == CURLE_OK) return got;
        if (code != CURLE_AGAIN) return fail(broken(code));
        if (auto ready = wait(reader_, POLLIN, ctx); !ready) return fail(ready.error());
    }
}

Result<void> CurlConnection::write(std::string_view bytes, const CallContext& ctx) {
    // A write that was given up in the middle has left half a TLS record behind; nothing may follow it.
    const auto give_up = [&](Error error) -> Result<void> {
        const std::lock_guard lock(mutex_);
        failed_ = true;
        return fail(std::move(error));
    };
    while (!bytes.empty()) {
        if (writer_.cancelled()) return give_up({ErrorKind::Cancelled, "stream cancelled", {}, {}});
        if (auto alive = ctx.check(); !alive) return give_up(alive.error());
        std::size_t sent = 0;
        CURLcode code = CURLE_OK;
        {
            const std::lock_guard lock(mutex_);
            if (failed_) return fail(ErrorKind::Unavailable, "the connection broke earlier");
            code = curl_easy_send(easy_.get(), bytes.data(), bytes.size(), &sent);
        }
        if (code == CURLE_OK) {
            bytes.remove_prefix(sent);
            continue;
        }
        if (code != CURLE_AGAIN) return give_up(broken(code));
        if (auto ready = wait(writer_, POLLOUT, ctx); !ready) return give_up(ready.error());
    }
    return {};
}

Result<void> CurlConnection::shut_write() {
    const std::lock_guard lock(mutex_);
    if (failed_) return {};
    failed_ = true;  // for writers only
    // No close_notify: libcurl's BIO works only inside a call of libcurl's own, SSL_shutdown() from here
    // crashes. The protocols above say goodbye in their own frames first, so nothing is lost by a bare FIN.
    ::shutdown(socket_, SHUT_WR);
    return {};
}

void CurlConnection::cancel() {
    reader_.cancel();
    writer_.cancel();
}

bool CurlConnection::peer_hung_up() const {
    return net::socket_peer_hung_up(socket_);
}

}  // namespace k8sgpu::kube
