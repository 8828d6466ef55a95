// One direction of a byte stream in memory: a bounded buffer between one writing and one reading thread.
// The building block of MemoryStream and of the streams of a multiplexed session.
//
// A full buffer blocks the writer, which is the back-pressure. end(), break_with(), discard() and the cancels
// may come from any thread; whoever shares the pipe keeps it alive. Errors: Cancelled, Timeout, and what
// break_with() was given.
#pragma once

#include <condition_variable>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "common/call_context.h"
#include "common/result.h"

namespace k8sgpu::net {

class BytePipe {
  public:
    explicit BytePipe(std::size_t capacity) : capacity_(capacity) {}

    // 1..buffer.size() bytes; 0 once end() was called and everything was read. Bytes that came before
    // break_with() are still delivered.
    Result<std::size_t> read(std::span<char> buffer, const CallContext& ctx);

    // Takes 1..bytes.size() bytes, blocking while the buffer is full.
    Result<std::size_t> write_some(std::string_view bytes, const CallContext& ctx);
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

    const std::size_t capacity_;
    mutable std::mutex mutex_;
    std::condition_variable_any readable_;
    std::condition_variable_any writable_;
    std::string data_;
    std::size_t begin_ = 0;  // data_[begin_..] waits to be read
    bool ended_ = false;
    bool discard_ = false;
    bool reader_cancelled_ = false;
    bool writer_cancelled_ = false;
    std::optional<Error> error_;
};

}  // namespace k8sgpu::net
