// A byte stream that keeps what is written to it, up to a limit, and forgets the rest: the end of a copy
// whose bytes are wanted as a whole. Never blocks, reads as ended. One writing thread, who also reads text().
#pragma once

#include <string>

#include "net/pollable.h"

namespace k8sgpu::net {

class TextSink final : public ByteStream, public Pollable {
  public:
    explicit TextSink(std::size_t limit) : limit_(limit) {}

    const std::string& text() const { return text_; }

    Result<std::size_t> try_write(std::string_view bytes) override {
        text_.append(bytes.substr(0, limit_ - text_.size()));
        return bytes.size();
    }
    Result<void> write(std::string_view bytes, const CallContext& /*ctx*/) override {
        text_.append(bytes.substr(0, limit_ - text_.size()));
        return {};
    }
    Result<std::optional<std::size_t>> try_read(std::span<char> /*buffer*/) override {
        return std::optional<std::size_t>(0);
    }
    Result<std::size_t> read(std::span<char> /*buffer*/, const CallContext& /*ctx*/) override {
        return std::size_t{0};
    }
    Result<void> shut_write() override { return {}; }
    void cancel() override {}

  private:
    const std::size_t limit_;
    std::string text_;
};

}  // namespace k8sgpu::net
