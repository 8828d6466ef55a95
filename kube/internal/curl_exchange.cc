#include "kube/internal/curl_exchange.h"

#include <algorithm>
#include <charconv>

namespace k8sgpu::kube {
namespace {

constexpr std::size_t kMaxHeaderBytes = 256U << 10U;

std::string_view without_line_end(std::string_view line) {
    while (line.ends_with('\n') || line.ends_with('\r')) line.remove_suffix(1);
    return line;
}

std::string_view trimmed(std::string_view text) {
    while (text.starts_with(' ') || text.starts_with('\t')) text.remove_prefix(1);
    while (text.ends_with(' ') || text.ends_with('\t')) text.remove_suffix(1);
    return text;
}

std::string lower(std::string_view text) {
    std::string copy(text);
    std::transform(copy.begin(), copy.end(), copy.begin(),
                   [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
    return copy;
}

}  // namespace

Result<std::shared_ptr<Exchange>> Exchange::make(const Request& request, std::shared_ptr<Endpoint> endpoint,
                                                 const Credential& credential,
                                                 const CurlTransportOptions& options, Mode mode) {
    auto headers = request_headers(request, *endpoint, credential, options);
    if (!headers) return fail(headers.error());
    std::shared_ptr<Exchange> exchange(new Exchange(endpoint, options, mode));
    auto easy = make_easy(request.path, *endpoint, credential, options, exchange->error_buffer_,
                          exchange->connect_to_);
    if (!easy) return fail(easy.error());
    exchange->easy_ = std::move(*easy);
    exchange->body_ = request.body;
    CURL* handle = exchange->easy_.get();

    headers->emplace("expect", "");  // never wait for "100 Continue"
    curl_slist* list = nullptr;
    for (const auto& [name, value] : *headers) {
        // "name:" removes libcurl's own header; "name;" would send it empty.
        list = curl_slist_append(list, (name + ": " + value).c_str());
    }
    exchange->header_list_.reset(list);
    curl_easy_setopt(handle, CURLOPT_HTTPHEADER, list);

    const bool sends = request.method == "POST" || request.method == "PUT" || request.method == "PATCH";
    if (sends || !request.body.empty()) {
        curl_easy_setopt(handle, CURLOPT_POST, 1L);
        curl_easy_setopt(handle, CURLOPT_POSTFIELDSIZE_LARGE,
                         static_cast<curl_off_t>(exchange->body_.size()));
        curl_easy_setopt(handle, CURLOPT_POSTFIELDS, exchange->body_.data());
    }
    if (request.method == "HEAD") curl_easy_setopt(handle, CURLOPT_NOBODY, 1L);
    curl_easy_setopt(handle, CURLOPT_CUSTOMREQUEST, request.method.c_str());
    // A compressed stream would hold events back until a block is full.
    if (mode == Mode::Collect) curl_easy_setopt(handle, CURLOPT_ACCEPT_ENCODING, "gzip");

    curl_easy_setopt(handle, CURLOPT_HEADERFUNCTION, &Exchange::on_header);
    curl_easy_setopt(handle, CURLOPT_HEADERDATA, exchange.get());
    curl_easy_setopt(handle, CURLOPT_WRITEFUNCTION, &Exchange::on_body);
    curl_easy_setopt(handle, CURLOPT_WRITEDATA, exchange.get());
    return exchange;
}

template <typename Ready>
Result<void> Exchange::wait(Guarded<State>::Lock& state, const CallContext& ctx, Ready ready) {
    const auto over = [&] { return ready() || state->done || state->cancelled; };
    state.wait_until(ctx.clock(), changed_, ctx.deadline(), ctx.stop(), over);
    if (state->cancelled) return fail(ErrorKind::Cancelled, "cancelled");
    if (ready()) return {};
    if (state->done && state->error) return fail(*state->error);
    if (state->done) return {};
    if (ctx.stop().stop_requested()) return fail(ErrorKind::Cancelled, "stopped");
    return fail(ErrorKind::Timeout, "no answer from " + endpoint_->address.host_port() + " in time");
}

Result<Response> Exchange::wait_done(const CallContext& ctx) {
    auto state = state_.lock();
    if (auto done = wait(state, ctx, [] { return false; }); !done) return fail(done.error());
    return Response{state->status, std::move(state->headers), std::move(state->body)};
}

Result<void> Exchange::wait_head(const CallContext& ctx) {
    auto state = state_.lock();
    return wait(state, ctx, [&] { return state->head_done; });
}

Result<std::string> Exchange::next(const CallContext& ctx, bool* resume) {
    auto state = state_.lock();
    if (auto ready = wait(state, ctx, [&] { return !state->chunks.empty(); }); !ready)
        return fail(ready.error());
    if (state->chunks.empty()) return std::string();  // the orderly end
    std::string chunk = std::move(state->chunks.front());
    state->chunks.pop_front();
    state->queued -= chunk.size();
    *resume = state->paused && state->queued <= options_.stream_buffer / 2;
    if (*resume) state->paused = false;
    return chunk;
}

void Exchange::cancel() {
    state_.lock()->cancelled = true;
    changed_.notify_all();
}

void Exchange::finish(CURLcode code) {
    {
        auto state = state_.lock();
        state->done = true;
        if (code != CURLE_OK && !state->error)
            state->error = error_from_curl(code, easy_.get(), error_buffer_.data(), *endpoint_);
    }
    changed_.notify_all();
}

void Exchange::resume() {
    curl_easy_pause(easy_.get(), CURLPAUSE_CONT);
}

std::size_t Exchange::on_header(char* data, std::size_t size, std::size_t count, void* self) {
    const std::string_view line(data, size * count);
    return static_cast<Exchange*>(self)->add_header_line(line) ? line.size() : 0;
}

bool Exchange::add_header_line(std::string_view line) {
    header_bytes_ += line.size();
    line = without_line_end(line);
    auto state = state_.lock();
    if (header_bytes_ > kMaxHeaderBytes) {
        state->error = Error{ErrorKind::Protocol, "response headers are larger than 256 KiB", {}, {}};
        return false;
    }
    if (state->head_done) return true;  // trailers
    if (line.starts_with("HTTP/")) {
        // Also the second head after "100 Continue".
        state->headers.clear();
        const std::size_t space = std::min(line.find(' '), line.size() - 1);
        std::from_chars(line.data() + space + 1, line.data() + line.size(), state->status);
        return true;
    }
    if (line.empty()) {
        state->head_done = state->status >= 200;
        if (state->head_done) changed_.notify_all();
        return true;
    }
    const std::size_t colon = line.find(':');
    if (colon == std::string_view::npos) return true;
    state->headers.emplace(lower(line.substr(0, colon)), trimmed(line.substr(colon + 1)));
    return true;
}

std::size_t Exchange::on_body(char* data, std::size_t size, std::size_t count, void* self) {
    return static_cast<Exchange*>(self)->add_body({data, size * count});
}

std::size_t Exchange::add_body(std::string_view bytes) {
    auto state = state_.lock();
    if (mode_ == Mode::Collect) {
        if (state->body.size() + bytes.size() > options_.max_body) {
            state->error = Error{ErrorKind::Protocol,
                                 "response is larger than " + std::to_string(options_.max_body) + " bytes",
                                 {},
                                 {}};
            return 0;
        }
        state->body += bytes;
        return bytes.size();
    }
    if (state->queued >= options_.stream_buffer) {
        state->paused = true;
        return CURL_WRITEFUNC_PAUSE;
    }
    state->chunks.emplace_back(bytes);
    state->queued += bytes.size();
    changed_.notify_all();
    return bytes.size();
}

}  // namespace k8sgpu::kube
