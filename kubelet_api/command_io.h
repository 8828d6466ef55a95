// The streams of one command as a provider sees them. Made by remote_command; a reader of terminal sizes may
// be another thread than the one that writes output.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "net/mux_session.h"
#include "providers/port/exec.h"

namespace k8sgpu::kubelet_api {

// Takes terminal sizes out of a stream of JSON objects without separators. Pure; one thread.
class SizeDecoder {
  public:
    // The last complete size in what arrived so far, if any came; sizes with a zero in both are dropped.
    // Protocol when the bytes are no such objects.
    Result<std::optional<providers::TerminalSize>> feed(std::string_view bytes);

  private:
    std::string pending_;
};

using StreamsByType = std::map<std::string, std::shared_ptr<net::MuxStream>, std::less<>>;

class CommandIo final : public providers::ExecIo {
  public:
    explicit CommandIo(const StreamsByType& streams) : streams_(streams) {}

    net::ByteStream* stdin_stream() override { return find("stdin"); }
    net::ByteStream* stdout_stream() override { return find("stdout"); }
    net::ByteStream* stderr_stream() override { return find("stderr"); }
    Result<std::optional<providers::TerminalSize>> next_size(const CallContext& ctx) override;

  private:
    net::ByteStream* find(std::string_view type) const;
    const StreamsByType& streams_;
    SizeDecoder sizes_;
};

}  // namespace k8sgpu::kubelet_api
