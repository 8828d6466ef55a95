#include "providers/kubernetes/port_forward.h"

#include <algorithm>
#include <array>
#include <functional>

#include "kube/api_client.h"
#include "providers/kubernetes/remote_session.h"
#include "providers/kubernetes/status_map.h"

namespace k8sgpu::providers::kubernetes {
namespace {

constexpr Duration kLinger{1'000};
constexpr std::size_t kMaxMessage = 4096;

using StreamPtr = std::shared_ptr<net::MuxStream>;
using Localize = std::function<std::string(std::string)>;

// The data stream of a pair; what the remote side says on the error stream becomes the error of a read. As
// the data may end before the reason arrives, and a failed connection may tell on the error stream alone, the
// end is known when both have ended, or when there is a text.
class RemotePort final : public net::ByteStream, public net::Pollable {
  public:
    RemotePort(StreamPtr data, StreamPtr error, Localize localize)
        : data_(std::move(data)), error_(std::move(error)), localize_(std::move(localize)) {}
    ~RemotePort() override {
        // Each does nothing where the stream has ended on both sides.
        data_->reset();
        error_->reset();
    }

    Result<std::optional<std::size_t>> try_read(std::span<char> buffer) override {
        if (!data_ended_) {
            auto got = data_->try_read(buffer);
            if (got && got->has_value() && **got > 0) return got;
            if (!got) failure_ = got.error();
            if (!got || got->has_value()) {
                data_ended_ = true;
                // So that the remote side has nothing to wait for.
                static_cast<void>(data_->shut_write());
            }
        }
        if (std::string text = complaint(); !text.empty())
            return fail(ErrorKind::Unavailable, localize_(std::move(text)));
        if (!data_ended_ || !error_ended_) return std::optional<std::size_t>();
        if (failure_) return fail(*failure_);
        return std::optional<std::size_t>(0);
    }
    Result<std::size_t> try_write(std::string_view bytes) override { return data_->try_write(bytes); }
    void watch_readable(net::Wake wake) override {
        error_->watch_readable(wake);
        data_->watch_readable(std::move(wake));
    }
    void watch_writable(net::Wake wake) override { data_->watch_writable(std::move(wake)); }

    // Does not hear of a failed connection before the data ends; who polls does.
    Result<std::size_t> read(std::span<char> buffer, const CallContext& ctx) override {
        return data_->read(buffer, ctx);
    }
    Result<void> write(std::string_view bytes, const CallContext& ctx) override {
        return data_->write(bytes, ctx);
    }
    Result<void> shut_write() override { return data_->shut_write(); }
    void cancel() override { data_->cancel(); }

  private:
    std::string complaint() {
        std::array<char, 1024> buffer;
        std::string text;
        while (!error_ended_) {
            const auto got = error_->try_read(buffer);
            error_ended_ = !got || (got->has_value() && **got == 0);
            if (error_ended_ || !got->has_value()) break;
            text.append(buffer.data(), std::min(**got, kMaxMessage - text.size()));
        }
        return text;
    }

    const StreamPtr data_, error_;
    const Localize localize_;
    bool data_ended_ = false;
    bool error_ended_ = false;
    std::optional<Error> failure_;
};

class RemotePorts final : public PodPorts {
  public:
    RemotePorts(kube::Transport& remote, Locator& locator, PodId pod)
        : remote_(remote), locator_(locator), pod_(std::move(pod)) {}
    ~RemotePorts() override {
        if (session_) session_->close(kLinger);
    }

    Result<std::unique_ptr<net::ByteStream>> connect(std::uint16_t port, const CallContext& ctx) override {
        if (auto ready = ensure_session(ctx); !ready) return fail(ready.error());
        net::StreamHeaders headers = {{"streamtype", "error"},
                                      {"port", std::to_string(port)},
                                      {"requestid", std::to_string(next_request_++)}};
        auto error = session_->open_at_once(headers, ctx);
        if (!error) return fail(error.error());
        // Only the remote side speaks on it.
        if (auto shut = (*error)->shut_write(); !shut) return fail(shut.error());
        headers["streamtype"] = "data";
        auto data = session_->open_at_once(headers, ctx);
        if (!data) {
            (*error)->reset();
            return fail(data.error());
        }
        auto localized = [pod = pod_, remote = address_](std::string text) {
            return localize(std::move(text), pod, remote.ns, remote.uid);
        };
        return std::unique_ptr<net::ByteStream>(
            std::make_unique<RemotePort>(*std::move(data), *std::move(error), std::move(localized)));
    }

  private:
    Result<void> ensure_session(const CallContext& ctx) {
        if (session_ && !session_->ended().stop_requested()) return {};
        session_.reset();
        auto remote = locator_.locate(pod_, ctx);
        if (!remote) return fail(remote.error());
        address_ = *std::move(remote);
        const std::string path =
            kube::resource_path(kube::resources::kPods, address_.ns, address_.name, "portforward");
        auto session = open_forward_session(remote_, path, ctx);
        if (!session) return fail(session.error().with_context("opening the remote port-forward"));
        session_ = *std::move(session);
        return {};
    }

    kube::Transport& remote_;
    Locator& locator_;
    const PodId pod_;
    RemoteAddress address_;
    std::uint64_t next_request_ = 0;
    std::unique_ptr<net::MuxSession> session_;
};

}  // namespace

std::unique_ptr<PodPorts> RemotePortForward::ports_of(const PodId& pod) {
    return std::make_unique<RemotePorts>(remote_, locator_, pod);
}

}  // namespace k8sgpu::providers::kubernetes
