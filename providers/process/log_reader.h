// Reads what LogWriter wrote, in the manner of the kubelet's log reader (kubelet-contract §1.6): tail counts
// before `since` filters, partial lines get one time stamp, limitBytes cuts anywhere. Rotated parts are read
// too, oldest first, and rotation is followed. Any thread; one call reads one log.
#pragma once

#include <array>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "providers/port/logs.h"
#include "providers/process/log_writer.h"

namespace k8sgpu::providers::process {

struct LogLine {
    std::string_view time;  // RFC 3339 with nine digits
    LogStream stream = LogStream::Stdout;
    bool partial = false;
    std::string_view text;
};
std::optional<LogLine> parse_log_line(std::string_view line);  // without its newline

// Turns stored lines into what the reader gets. Pure.
class LogFilter {
  public:
    LogFilter(const LogRequest& request, WallTime now);
    // Appends to `out` what this stored line contributes.
    void take(std::string_view line, std::string& out);
    bool full() const { return left_ && *left_ <= 0; }  // limitBytes is used up

  private:
    bool timestamps_;
    LogStreams streams_;
    std::optional<std::string> since_;  // in the form of the log: compares as text
    std::optional<std::int64_t> left_;
    std::array<bool, 2> inside_line_{};  // per stream: the last piece did not end its line
};

// Writes the log at `path` (and its rotated parts) to `sink`, after sink.begin(). When following, returns
// once `over()` has said that nothing will be added and everything was written. Errors: NotFound (no such
// log), those of the sink and the context.
Result<void> read_log(const std::string& path, int files, const LogRequest& request, LogSink& sink,
                      const std::function<bool()>& over, const CallContext& ctx);

}  // namespace k8sgpu::providers::process
