// Two connected ends of a byte stream inside the process: what one writes the other reads. For tests of
// everything above ByteStream, and for joining two components that expect a connection.
//
// Behaves as a TCP connection does: bounded buffer (a slow reader blocks the writer), half-close, and an end
// that is destroyed gives the peer the end of stream on read and Unavailable on write. Threads as ByteStream.
#pragma once

#include <memory>

#include "net/byte_pipe.h"
#include "net/byte_stream.h"
#include "net/pollable.h"

namespace k8sgpu::net {

class MemoryStream final : public ByteStream, public Pollable {
  public:
    MemoryStream(std::shared_ptr<BytePipe> in, std::shared_ptr<BytePipe> out);
    ~MemoryStream() override;
    MemoryStream(const MemoryStream&) = delete;
    MemoryStream& operator=(const MemoryStream&) = delete;

    Result<std::size_t> read(std::span<char> buffer, const CallContext& ctx) override;
    Result<void> write(std::string_view bytes, const CallContext& ctx) override;
    Result<void> shut_write() override;
    void cancel() override;
    bool peer_hung_up() const override;

    Result<std::optional<std::size_t>> try_read(std::span<char> buffer) override {
        return in_->try_read(buffer);
    }
    Result<std::size_t> try_write(std::string_view bytes) override { return out_->try_write(bytes); }
    void watch_readable(Wake wake) override { in_->watch_readable(std::move(wake)); }
    void watch_writable(Wake wake) override { out_->watch_writable(std::move(wake)); }

    // What pulling the cable looks like once TCP noticed: both ends fail with Unavailable, the peer after the
    // bytes that had already arrived.
    void break_connection();

  private:
    std::shared_ptr<BytePipe> in_;
    std::shared_ptr<BytePipe> out_;
};

struct MemoryPair {
    std::unique_ptr<MemoryStream> first;
    std::unique_ptr<MemoryStream> second;
};

// `capacity` bytes may wait in each direction.
MemoryPair make_memory_pair(std::size_t capacity = 64U << 10U);

}  // namespace k8sgpu::net
