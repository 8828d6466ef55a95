#include "net/byte_pipe.h"

#include <algorithm>
#include <cstring>

namespace k8sgpu::net {

BytePipe::~BytePipe() {
    if (borrowed_ > 0) spare_->give(borrowed_);
}

Result<std::size_t> BytePipe::read(std::span<char> buffer, const CallContext& ctx) {
    std::unique_lock lock(mutex_);
    if (!ctx.clock().wait_until(readable_, lock, ctx.deadline(), ctx.stop(), [&] { return can_read(); })) {
        lock.unlock();
        if (auto ok = ctx.check(); !ok) return fail(ok.error());
        return fail(ErrorKind::Timeout, "deadline passed");
    }
    return take_out(buffer);
}

Result<std::optional<std::size_t>> BytePipe::try_read(std::span<char> buffer) {
    const std::lock_guard lock(mutex_);
    if (!can_read()) return std::optional<std::size_t>();
    const auto got = take_out(buffer);
    if (!got) return fail(got.error());
    return std::optional(*got);
}

Result<std::size_t> BytePipe::take_out(std::span<char> buffer) {
    if (reader_cancelled_) return fail(ErrorKind::Cancelled, "stream cancelled");
    if (buffered() == 0) {
        if (ended_) return std::size_t{0};
        return fail(*error_);
    }
    const std::size_t count = std::min(buffer.size(), buffered());
    std::memcpy(buffer.data(), data_.data() + begin_, count);
    begin_ += count;
    if (begin_ == data_.size()) {
        // An idle stream holds no memory, a busy one keeps it.
        if (data_.capacity() > 2 * capacity_) {
            data_ = {};
        } else {
            data_.clear();
        }
        begin_ = 0;
    }
    give_back_spare();
    tell_writer();
    return count;
}

Result<std::size_t> BytePipe::write_some(std::string_view bytes, const CallContext& ctx) {
    if (bytes.empty()) return std::size_t{0};
    std::unique_lock lock(mutex_);
    if (can_write() || room_for(bytes.size()) > 0) return put_in(bytes);
    if (!ctx.clock().wait_until(writable_, lock, ctx.deadline(), ctx.stop(), [&] { return can_write(); })) {
        lock.unlock();
        if (auto ok = ctx.check(); !ok) return fail(ok.error());
        return fail(ErrorKind::Timeout, "deadline passed");
    }
    return put_in(bytes);
}

Result<std::size_t> BytePipe::try_write(std::string_view bytes) {
    if (bytes.empty()) return std::size_t{0};
    const std::lock_guard lock(mutex_);
    auto count = can_write() ? put_in(bytes) : Result<std::size_t>(std::size_t{0});
    if (count && *count < bytes.size()) writer_waits_ = true;
    return count;
}

Result<std::size_t> BytePipe::put_in(std::string_view bytes) {
    if (writer_cancelled_) return fail(ErrorKind::Cancelled, "stream cancelled");
    if (discard_) return bytes.size();
    if (error_) return fail(*error_);
    if (ended_) return fail(ErrorKind::Invalid, "write after the end of the stream");
    // Move what is left to the front before the dead space in front of it outgrows the buffer.
    if (begin_ > capacity_) {
        data_.erase(0, begin_);
        begin_ = 0;
    }
    const bool was_empty = buffered() == 0;
    const std::size_t count = std::min(bytes.size(), room_for(bytes.size()));
    data_.append(bytes.substr(0, count));
    if (was_empty) tell_reader();
    return count;
}

// Under mutex_. Borrows from the pool when the buffer itself is full.
std::size_t BytePipe::room_for(std::size_t wanted) {
    const std::size_t limit = capacity_ + borrowed_;
    if (buffered() < limit) return limit - buffered();
    if (!spare_ || !spare_->take(wanted)) return 0;
    borrowed_ += wanted;
    return wanted;
}

void BytePipe::give_back_spare() {
    const std::size_t over = buffered() > capacity_ ? buffered() - capacity_ : 0;
    if (borrowed_ <= over) return;
    spare_->give(borrowed_ - over);
    borrowed_ = over;
}

void BytePipe::tell_reader() {
    readable_.notify_all();
    if (readable_wake_) readable_wake_();
}

void BytePipe::tell_writer() {
    writable_.notify_all();
    if (!writer_waits_ || !can_write()) return;
    writer_waits_ = false;
    if (writable_wake_) writable_wake_();
}

void BytePipe::watch_readable(Wake wake) {
    const std::lock_guard lock(mutex_);
    readable_wake_ = std::move(wake);
}

void BytePipe::watch_writable(Wake wake) {
    const std::lock_guard lock(mutex_);
    writable_wake_ = std::move(wake);
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
    tell_reader();
    tell_writer();
}

void BytePipe::break_with(Error error) {
    const std::lock_guard lock(mutex_);
    if (error_ || ended_) return;
    error_ = std::move(error);
    tell_reader();
    tell_writer();
}

void BytePipe::discard() {
    const std::lock_guard lock(mutex_);
    discard_ = true;
    data_ = {};
    begin_ = 0;
    give_back_spare();
    tell_writer();
}

void BytePipe::cancel_reader() {
    const std::lock_guard lock(mutex_);
    reader_cancelled_ = true;
    tell_reader();
}

void BytePipe::cancel_writer() {
    const std::lock_guard lock(mutex_);
    writer_cancelled_ = true;
    tell_writer();
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
