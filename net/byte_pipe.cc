#include "net/byte_pipe.h"

#include <algorithm>
#include <cstring>

namespace k8sgpu::net {

Result<std::size_t> BytePipe::read(std::span<char> buffer, const CallContext& ctx) {
    std::unique_lock lock(mutex_);
    const auto ready = [&] { return buffered() > 0 || ended_ || error_ || reader_cancelled_; };
    if (!ctx.clock().wait_until(readable_, lock, ctx.deadline(), ctx.stop(), ready)) {
        lock.unlock();
        if (auto ok = ctx.check(); !ok) return fail(ok.error());
        return fail(ErrorKind::Timeout, "deadline passed");
    }
    if (reader_cancelled_) return fail(ErrorKind::Cancelled, "stream cancelled");
    if (buffered() == 0) {
        if (ended_) return std::size_t{0};
        return fail(*error_);
    }
    const std::size_t count = std::min(buffer.size(), buffered());
    std::memcpy(buffer.data(), data_.data() + begin_, count);
    begin_ += count;
    if (begin_ == data_.size()) {
        data_.clear();
        begin_ = 0;
    }
    writable_.notify_all();
    return count;
}

Result<std::size_t> BytePipe::write_some(std::string_view bytes, const CallContext& ctx) {
    if (bytes.empty()) return std::size_t{0};
    std::unique_lock lock(mutex_);
    const auto ready = [&] {
        return buffered() < capacity_ || ended_ || error_ || discard_ || writer_cancelled_;
    };
    if (!ctx.clock().wait_until(writable_, lock, ctx.deadline(), ctx.stop(), ready)) {
        lock.unlock();
        if (auto ok = ctx.check(); !ok) return fail(ok.error());
        return fail(ErrorKind::Timeout, "deadline passed");
    }
    if (writer_cancelled_) return fail(ErrorKind::Cancelled, "stream cancelled");
    if (discard_) return bytes.size();
    if (error_) return fail(*error_);
    if (ended_) return fail(ErrorKind::Invalid, "write after the end of the stream");
    // Move what is left to the front before the dead space in front of it outgrows the buffer.
    if (begin_ > capacity_) {
        data_.erase(0, begin_);
        begin_ = 0;
    }
    const std::size_t count = std::min(bytes.size(), capacity_ - buffered());
    data_.append(bytes.substr(0, count));
    readable_.notify_all();
    return count;
}

Result<void> BytePipe::write(std::string_view bytes, const CallContext& ctx) {
    while (!bytes.empty()) {
        auto count = write_some(bytes, ctx);
        if (!count) return fail(count.error());
        bytes.remove_prefix(*count);
    }
    return {};
}

void BytePipe::end() {
    const std::lock_guard lock(mutex_);
    if (error_) return;
    ended_ = true;
    readable_.notify_all();
    writable_.notify_all();
}

void BytePipe::break_with(Error error) {
    const std::lock_guard lock(mutex_);
    if (error_ || ended_) return;
    error_ = std::move(error);
    readable_.notify_all();
    writable_.notify_all();
}

void BytePipe::discard() {
    const std::lock_guard lock(mutex_);
    discard_ = true;
    data_ = {};
    begin_ = 0;
    writable_.notify_all();
}

void BytePipe::cancel_reader() {
    const std::lock_guard lock(mutex_);
    reader_cancelled_ = true;
    readable_.notify_all();
}

void BytePipe::cancel_writer() {
    const std::lock_guard lock(mutex_);
    writer_cancelled_ = true;
    writable_.notify_all();
}

std::size_t BytePipe::size() const {
    const std::lock_guard lock(mutex_);
    return buffered();
}

bool BytePipe::ended() const {
    const std::lock_guard lock(mutex_);
    return ended_ || error_.has_value();
}

}  // namespace k8sgpu::net
