// A client of exec and attach in memory.
#pragma once

#include <condition_variable>
#include <mutex>
#include <string>
#include <vector>

#include "providers/port/exec.h"

namespace k8sgpu::providers::process {

// One direction in memory: what the test puts in is read, what is written is kept.
class TestStream final : public net::ByteStream {
  public:
    TestStream& send(const std::string& bytes) {
        const std::scoped_lock lock(mutex_);
        input_ += bytes;
        changed_.notify_all();
        return *this;
    }
    void end() {
        const std::scoped_lock lock(mutex_);
        ended_ = true;
        changed_.notify_all();
    }
    std::size_t taken_bytes() const {
        const std::scoped_lock lock(mutex_);
        return taken_;
    }
    bool taken() const { return taken_bytes() > 0; }
    std::string written() const {
        const std::scoped_lock lock(mutex_);
        return output_;
    }

    Result<std::size_t> read(std::span<char> buffer, const CallContext& ctx) override {
        std::unique_lock lock(mutex_);
        ctx.clock().wait_until(changed_, lock, ctx.deadline(), ctx.stop(),
                               [this] { return !input_.empty() || ended_; });
        if (auto alive = ctx.check(); !alive) return fail(alive.error());
        const std::size_t count = input_.copy(buffer.data(), buffer.size());
        input_.erase(0, count);
        taken_ += count;
        return count;
    }
    Result<void> write(std::string_view bytes, const CallContext& ctx) override {
        std::unique_lock lock(mutex_);
        ctx.clock().wait_until(changed_, lock, ctx.deadline(), ctx.stop(), [this] { return !stuck_; });
        if (auto alive = ctx.check(); !alive) return alive;
        output_ += bytes;
        return {};
    }
    // A reader that takes nothing until it is released.
    void stick(bool stuck) {
        const std::scoped_lock lock(mutex_);
        stuck_ = stuck;
        changed_.notify_all();
    }
    Result<void> shut_write() override { return {}; }
    void cancel() override { end(); }

  private:
    mutable std::mutex mutex_;
    std::condition_variable_any changed_;
    std::string input_, output_;
    std::size_t taken_ = 0;
    bool ended_ = false, stuck_ = false;
};

class TestIo final : public ExecIo {
  public:
    net::ByteStream* stdin_stream() override { return with_stdin ? &in : nullptr; }
    net::ByteStream* stdout_stream() override { return &out; }
    net::ByteStream* stderr_stream() override { return &err; }
    Result<std::optional<TerminalSize>> next_size(const CallContext& ctx) override {
        if (!sizes.empty()) {
            const TerminalSize size = sizes.back();
            sizes.clear();
            return std::optional(size);
        }
        ctx.clock().sleep_until(ctx.deadline(), ctx.stop());
        return fail(ErrorKind::Cancelled, "no more");
    }

    bool with_stdin = false;
    TestStream in, out, err;
    std::vector<TerminalSize> sizes;
};

}  // namespace k8sgpu::providers::process
