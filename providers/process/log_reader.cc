#include "providers/process/log_reader.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <deque>
#include <utility>

#include "common/encoding.h"
#include "common/file.h"

namespace k8sgpu::providers::process {
namespace {

constexpr std::size_t kChunk = 65536;
constexpr Duration kFollowPoll{100};

std::string part_name(const std::string& path, int part) {
    return part == 0 ? path : fmt::format("{}.{}", path, part);
}

// One open part of the log. Its identity stays while rotation renames it.
class Part {
  public:
    Part() = default;
    Part(Part&& other) noexcept
        : fd_(std::exchange(other.fd_, -1)), device_(other.device_), inode_(other.inode_) {}
    Part& operator=(Part&& other) noexcept {
        std::swap(fd_, other.fd_);
        std::swap(device_, other.device_);
        std::swap(inode_, other.inode_);
        return *this;
    }
    ~Part() {
        if (fd_ >= 0) ::close(fd_);
    }

    static Result<Part> open(const std::string& path) {
        Part part;
        part.fd_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
        struct stat info {};
        if (part.fd_ < 0 || ::fstat(part.fd_, &info) != 0) return fail(error_from_errno(errno, path));
        part.device_ = info.st_dev;
        part.inode_ = info.st_ino;
        return part;
    }

    bool is(const Part& other) const { return device_ == other.device_ && inode_ == other.inode_; }
    std::int64_t size() const {
        struct stat info {};
        return ::fstat(fd_, &info) == 0 ? info.st_size : 0;
    }
    std::size_t read_at(std::int64_t offset, char* buffer, std::size_t size) const {
        ssize_t got = 0;
        do {
            got = ::pread(fd_, buffer, size, offset);
        } while (got < 0 && errno == EINTR);
        return got > 0 ? static_cast<std::size_t>(got) : 0;
    }

  private:
    int fd_ = -1;
    dev_t device_ = 0;
    ino_t inode_ = 0;
};

// All parts, oldest first. Opened newest first: rotation moves parts towards what is opened later, so one may
// be met twice but none is missed.
std::deque<Part> open_parts(const std::string& path, int files) {
    std::deque<Part> parts;
    for (int i = 0; i < files; ++i) {
        auto part = Part::open(part_name(path, i));
        if (!part) continue;
        const bool known =
            std::any_of(parts.begin(), parts.end(), [&](const Part& p) { return p.is(*part); });
        if (!known) parts.push_front(std::move(*part));
    }
    return parts;
}

// The part that came after `current`; nullopt while that one is still being written.
std::optional<Part> next_part(const std::string& path, int files, const Part& current) {
    std::optional<Part> newer;
    for (int i = 0; i < files; ++i) {
        auto part = Part::open(part_name(path, i));
        if (!part) continue;
        if (part->is(current)) return newer;
        newer = std::move(*part);
    }
    return newer;  // ours was rotated away: go on with the oldest that is left
}

struct Position {
    std::size_t part = 0;
    std::int64_t offset = 0;
};

// Where the last `lines` stored lines begin.
Position find_tail(const std::deque<Part>& parts, std::int64_t lines) {
    if (parts.empty()) return {};
    Position end{parts.size() - 1, parts.back().size()};
    if (lines == 0) return end;
    std::int64_t seen = 0;
    std::string buffer(kChunk, '\0');
    for (std::size_t i = parts.size(); i-- > 0;) {
        for (std::int64_t stop = parts[i].size(); stop > 0;) {
            const std::int64_t start = std::max<std::int64_t>(0, stop - static_cast<std::int64_t>(kChunk));
            const auto got = parts[i].read_at(start, buffer.data(), static_cast<std::size_t>(stop - start));
            for (std::size_t k = got; k-- > 0;) {
                if (buffer[k] == '\n' && ++seen > lines) return {i, start + static_cast<std::int64_t>(k) + 1};
            }
            stop = start;
        }
    }
    return {};
}

class Reader {
  public:
    Reader(const std::string& path, int files, const LogRequest& request, LogSink& sink,
           const CallContext& ctx)
        : path_(path), files_(files), sink_(sink), ctx_(ctx), filter_(request, ctx.clock().wall_now()) {}

    // Everything there is from the position on; leaves the newest part in `current_`.
    Result<void> read_parts(std::deque<Part> parts, Position from) {
        for (std::size_t i = from.part; i < parts.size(); ++i) {
            current_ = std::move(parts[i]);
            offset_ = i == from.part ? from.offset : 0;
            if (auto done = read_current(); !done || filter_.full()) return done;
        }
        return {};
    }

    Result<void> follow(const std::function<bool()>& over) {
        while (!filter_.full()) {
            // Asked before the read: what was written until then is read below.
            const bool last_round = over();
            if (auto done = read_current(); !done) return done;
            while (auto next = next_part(path_, files_, current_)) {
                // The writer has left this part; what it wrote after our last read comes first.
                if (auto done = read_current(); !done) return done;
                current_ = std::move(*next);
                offset_ = 0;
                if (auto done = read_current(); !done) return done;
            }
            if (last_round) return {};
            if (auto alive = ctx_.check(); !alive) return alive;
            ctx_.clock().sleep_until(std::min(ctx_.deadline(), ctx_.clock().now() + kFollowPoll),
                                     ctx_.stop());
        }
        return {};
    }

  private:
    Result<void> read_current() {
        std::string out;
        while (!filter_.full()) {
            const std::size_t got = current_.read_at(offset_, chunk_.data(), chunk_.size());
            if (got == 0) return {};
            offset_ += static_cast<std::int64_t>(got);
            rest_.append(chunk_.data(), got);
            std::size_t begin = 0;
            for (std::size_t end; (end = rest_.find('\n', begin)) != std::string::npos; begin = end + 1) {
                filter_.take(std::string_view(rest_).substr(begin, end - begin), out);
            }
            rest_.erase(0, begin);
            if (!out.empty()) {
                if (auto sent = sink_.write(out); !sent) return sent;
            }
            out.clear();
            if (auto alive = ctx_.check(); !alive) return alive;
        }
        return {};
    }

    const std::string& path_;
    int files_;
    LogSink& sink_;
    const CallContext& ctx_;
    LogFilter filter_;
    Part current_;
    std::int64_t offset_ = 0;
    std::string rest_;  // a line whose end was not read yet
    std::array<char, kChunk> chunk_;
};

}  // namespace

std::optional<LogLine> parse_log_line(std::string_view line) {
    LogLine parsed;
    const std::size_t first = line.find(' ');
    if (first == std::string_view::npos) return std::nullopt;
    parsed.time = line.substr(0, first);
    const std::string_view rest = line.substr(first + 1);
    // "stdout F " or "stderr P "
    if (rest.size() < 9 || rest[6] != ' ' || rest[8] != ' ') return std::nullopt;
    const std::string_view stream = rest.substr(0, 6);
    if (stream != "stdout" && stream != "stderr") return std::nullopt;
    parsed.stream = stream == "stdout" ? LogStream::Stdout : LogStream::Stderr;
    if (rest[7] != 'F' && rest[7] != 'P') return std::nullopt;
    parsed.partial = rest[7] == 'P';
    parsed.text = rest.substr(9);
    return parsed;
}

LogFilter::LogFilter(const LogRequest& request, WallTime now)
    : timestamps_(request.timestamps), streams_(request.streams), left_(request.limit_bytes) {
    if (request.since_time) since_ = rfc3339_nanos(*request.since_time);
    if (request.since_seconds) {
        const auto most = std::chrono::duration_cast<std::chrono::seconds>(now.time_since_epoch()).count();
        since_ =
            rfc3339_nanos(now - std::chrono::seconds(std::min<std::int64_t>(*request.since_seconds, most)));
    }
}

void LogFilter::take(std::string_view line, std::string& out) {
    const auto parsed = parse_log_line(line);
    if (!parsed) return;
    if (streams_ == LogStreams::Stdout && parsed->stream != LogStream::Stdout) return;
    if (streams_ == LogStreams::Stderr && parsed->stream != LogStream::Stderr) return;
    const bool continues =
        std::exchange(inside_line_[static_cast<std::size_t>(parsed->stream)], parsed->partial);
    if (since_ && parsed->time < *since_) return;
    const std::size_t before = out.size();
    if (timestamps_ && !continues) out.append(parsed->time).append(" ");
    out.append(parsed->text);
    if (!parsed->partial) out += '\n';
    if (!left_) return;
    const auto added = static_cast<std::int64_t>(out.size() - before);
    if (added > *left_) out.resize(before + static_cast<std::size_t>(std::max<std::int64_t>(0, *left_)));
    *left_ -= added;
}

Result<void> read_log(const std::string& path, int files, const LogRequest& request, LogSink& sink,
                      const std::function<bool()>& over, const CallContext& ctx) {
    std::deque<Part> parts = open_parts(path, files);
    if (parts.empty()) return fail(ErrorKind::NotFound, path + ": no such log");
    if (auto begun = sink.begin(); !begun) return begun;
    const Position from = request.tail_lines ? find_tail(parts, *request.tail_lines) : Position{};
    Reader reader(path, files, request, sink, ctx);
    if (auto done = reader.read_parts(std::move(parts), from); !done || !request.follow) return done;
    return reader.follow(over);
}

}  // namespace k8sgpu::providers::process
