// One direction of a byte stream in memory: a bounded buffer between one writing and one reading thread.
// The building block of MemoryStream and of the streams of a multiplexed session.
//
// A full buffer blocks the writer, which is the back-pressure; with a pool the writer may first run over into
// its spare room. end(), break_with(), discard() and the cancels
// may come from any thread; whoever shares the pipe keeps it alive. Errors: Cancelled, Timeout, and what
// break_with() was given.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "common/call_context.h"
#include "common/result.h"
#include "net/buffer_pool.h"
#include "net/pollable.h"

namespace k8sgpu::net {

class BytePipe {
  public:
    explicit BytePipe(std::size_t capacity, std::shared_ptr<BufferPool> spare = nullptr)
        : capacity_(capacity), spare_(std::move(spare)) {}
    ~BytePipe();
    BytePipe(const BytePipe&) = delete;
    BytePipe& operator=(const BytePipe&) = delete;

    // 1..buffer.size() bytes; 0 once end() was called and everything was read. Bytes that came before
    // break_with() are still delivered.
    Result<std::size_t> read(std::span<char> buffer, const CallContext& ctx);

    // Takes 1..bytes.size() bytes, blocking while the buffer is full.
    Result<std::size_t> write_some(std::string_view bytes, const CallContext& ctx);
    // The same without waiting: nothing when read() would wait, 0 when write_some() would.
    Result<std::optional<std::size_t>> try_read(std::span<char> buffer);
    Result<std::size_t> try_write(std::string_view bytes);
    // See Pollable.
    void watch_readable(Wake wake);
    void watch_writable(Wake wake);
    // Takes everything or fails.
    Result<void> write(std::string_view bytes, const CallContext& ctx);

    void end();                    // the writer is done; wins over a later break_with()
    void break_with(Error error);  // the first error stays; wakes both sides
    void discard();                // nobody will read: drops what waits, and what is written from now on

    void cancel_reader();  // wakes a blocked read; this and later reads return Cancelled
    void cancel_writer();

    std::size_t size() const;
    bool ended() const;  // end() or break_with() was called

  private:
    std::size_t buffered() const { return data_.size() - begin_; }
    bool can_read() const { return buffered() > 0 || ended_ || error_ || reader_cancelled_; }
    bool can_write() const {
        return buffered() < capacity_ || ended_ || error_ || discard_ || writer_cancelled_;
    }
    Result<std::size_t> take_out(std::span<char> buffer);
    Result<std::size_t> put_in(std::string_view bytes);
    std::size_t room_for(std::size_t wanted);
    void give_back_spare();
    void tell_reader();
    void tell_writer();

    const std::size_t capacity_;
    const std::shared_ptr<BufferPool> spare_;
    mutable std::mutex mutex_;
    std::condition_variable_any readable_;
    std::condition_variable_any writable_;
    Wake readable_wake_;
    Wake writable_wake_;
    bool writer_waits_ = false;  // try_write() took less than it was given
    std::string data_;
    std::size_t begin_ = 0;     // data_[begin_..] waits to be read
    std::size_t borrowed_ = 0;  // of spare_
    bool ended_ = false;
    bool discard_ = false;
    bool reader_cancelled_ = false;
    bool writer_cancelled_ = false;
    std::optional<Error> error_;
};

}  // namespace k8sgpu::net
