// One request and its response in flight. The caller's thread makes it and waits on it; kube-io fills it.
//
//   Collect: the whole body is kept, bounded, for send().
//   Stream:  chunks queue up to a limit; beyond it libcurl is paused, which stops the peer by TCP.
//
// Held by both sides through shared_ptr. The easy handle belongs to kube-io from CurlLoop::add() until the
// loop has let it go.
#pragma once

#include <condition_variable>
#include <deque>
#include <memory>
#include <optional>
#include <string>

#include "common/guarded.h"
#include "kube/internal/curl_setup.h"

namespace k8sgpu::kube {

class Exchange {
  public:
    enum class Mode { Collect, Stream };

    // Sets up the handle; `options` must outlive the exchange.
    static Result<std::shared_ptr<Exchange>> make(const Request& request, std::shared_ptr<Endpoint> endpoint,
                                                  const Credential& credential,
                                                  const CurlTransportOptions& options, Mode mode);

    // Callers. The errors are those of the transfer, or Timeout and Cancelled by ctx.
    Result<Response> wait_done(const CallContext& ctx);
    Result<void> wait_head(const CallContext& ctx);
    // The next chunk; *resume says that the loop should unpause the transfer.
    Result<std::string> next(const CallContext& ctx, bool* resume);
    int status() const { return state_.lock()->status; }
    Headers headers() const { return state_.lock()->headers; }
    void cancel();  // wakes the waiting caller with Cancelled

    // kube-io only.
    CURL* easy() const { return easy_.get(); }
    void finish(CURLcode code);  // the transfer is over
    void resume();

  private:
    struct State {
        int status = 0;
        Headers headers;
        bool head_done = false;
        std::string body;
        std::deque<std::string> chunks;
        std::size_t queued = 0;
        bool paused = false;
        bool done = false;
        bool cancelled = false;
        std::optional<Error> error;
    };
    Exchange(std::shared_ptr<Endpoint> endpoint, const CurlTransportOptions& options, Mode mode)
        : endpoint_(std::move(endpoint)), options_(options), mode_(mode) {}
    static std::size_t on_header(char* data, std::size_t size, std::size_t count, void* self);
    static std::size_t on_body(char* data, std::size_t size, std::size_t count, void* self);
    bool add_header_line(std::string_view line);
    std::size_t add_body(std::string_view bytes);
    template <typename Ready>
    Result<void> wait(Guarded<State>::Lock& state, const CallContext& ctx, Ready ready);

    const std::shared_ptr<Endpoint> endpoint_;
    const CurlTransportOptions& options_;
    const Mode mode_;
    std::string body_;
    Slist header_list_;
    Slist connect_to_;
    ErrorBuffer error_buffer_{};
    std::size_t header_bytes_ = 0;  // kube-io only
    Guarded<State> state_;
    std::condition_variable_any changed_;
    Easy easy_;
};

}  // namespace k8sgpu::kube
