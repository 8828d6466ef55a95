// Writes what a container prints in the format of container runtimes (CRI), rotated:
//
//   2024-05-01T10:00:00.000000000Z stdout F a whole line
//   2024-05-01T10:00:00.000000000Z stderr P a piece of a line: longer than 16 KiB, or the end without a
//   newline
//
// <n>.log is written, <n>.log.1 the newest rotated part … <n>.log.<files-1> the oldest. A line is written by
// one write(2), so a reader never sees half of one. A full disk loses lines, never blocks the container.
// Belongs to the shim's thread.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "common/clock.h"
#include "common/result.h"

namespace k8sgpu::providers::process {

enum class LogStream { Stdout, Stderr };

inline constexpr std::size_t kMaxLogLine = 16384;

class LogWriter {
  public:
    LogWriter(std::string path, std::int64_t max_bytes, int files);
    ~LogWriter();
    LogWriter(const LogWriter&) = delete;
    LogWriter& operator=(const LogWriter&) = delete;

    Result<void> open();
    void append(LogStream stream, std::string_view bytes, WallTime now);
    // The stream has ended: what came after the last newline is written as a piece.
    void finish(LogStream stream, WallTime now);
    std::int64_t lost_bytes() const { return lost_; }
    // Output began to be lost, or is written again, since the last call: what to say of it, else empty.
    std::string take_notice();

  private:
    void emit(LogStream stream, char tag, std::string_view text, WallTime now);
    void write_out();
    void note_loss(std::size_t bytes, int error);
    void rotate();

    std::string path_;
    std::int64_t max_bytes_;
    int files_;
    int fd_ = -1;
    std::int64_t size_ = 0, lost_ = 0, lost_before_ = 0;
    bool losing_ = false;
    std::string notice_;
    std::array<std::string, 2> pending_;
    std::string out_;
};

}  // namespace k8sgpu::providers::process
