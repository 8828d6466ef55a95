// One run of one container inside the shim: its main process, pipes, log and what it leaves behind. Belongs
// to the shim's thread.
#pragma once

#include <array>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>

#include "net/fd.h"
#include "providers/process/log_writer.h"
#include "providers/process/machine.h"
#include "providers/process/paths.h"
#include "providers/process/pod_events.h"
#include "providers/process/process_table.h"
#include "providers/process/spawn.h"

namespace k8sgpu::providers::process {

class ShimContainer {
  public:
    // Hears of everything that the container prints, after the log has it.
    using Listener = std::function<void(const ShimContainer&, LogStream, std::string_view)>;

    // Starts it. Errors carry the text for the termination message.
    static Result<std::unique_ptr<ShimContainer>> start(const PodPaths& paths, const PodIntent& intent,
                                                        std::size_t index, int run, Listener listener);
    ShimContainer(const ShimContainer&) = delete;
    ShimContainer& operator=(const ShimContainer&) = delete;

    std::size_t index() const { return index_; }
    int run() const { return run_; }
    pid_t pid() const { return pid_; }
    std::uint64_t start_time() const { return start_time_; }
    // CPU ticks of what the shim had waited for before this run.
    std::uint64_t reaped_before() const { return reaped_before_; }
    // -1 once closed. A terminal prints everything to Stdout.
    int output(LogStream stream) const { return fds_[static_cast<std::size_t>(stream)].get(); }

    // Where to write what the process shall read, without blocking; -1 when it has no input (any more).
    int input() const { return in_.get(); }
    bool input_once() const { return container_.in_once; }
    bool tty() const { return container_.tty; }
    void close_input() { in_.reset(); }
    void resize(std::uint16_t columns, std::uint16_t rows) const;

    // Moves what is there, at most 64 KiB, to the log. False when there was nothing, or never will be.
    bool read_output(LogStream stream, WallTime now);

    // Environment, directory and user of the container, for handlers.
    SpawnRequest command() const;

    // What is to be said of a log that cannot be written, or can again; once.
    std::optional<PodEvent> take_log_event();

    // SIGTERM to the main process's group.
    void terminate() const;

    void reaped(int wait_status) { wait_status_ = wait_status; }
    bool main_ended() const { return wait_status_.has_value(); }
    // Living processes of the main process's session below the shim.
    std::set<pid_t> members(const ProcessTable& table) const;

    struct End {
        int exit_code;
        std::string reason;
        std::string message;
    };
    // Empties the pipes, closes the log, reads the termination message. Only once main_ended().
    End finish(WallTime now);

  private:
    ShimContainer(const PodPaths& paths, const PodIntent& intent, std::size_t index, int run,
                  Listener listener);
    struct Streams {
        net::Fd in, out, err;  // the process's ends
    };
    Result<Streams> open_streams();
    std::string termination_message(int exit_code) const;

    const PodPaths& paths_;
    const PodIntent& intent_;
    const ContainerIntent& container_;
    std::size_t index_;
    int run_;
    LogWriter log_;
    Listener listener_;
    std::string last_output_;  // for FallbackToLogsOnError
    pid_t pid_ = -1;
    std::uint64_t start_time_ = 0, reaped_before_ = 0;
    net::Fd in_;
    std::array<net::Fd, 2> fds_;
    std::optional<int> wait_status_;
};

// The end of what was printed: at most 80 lines and 2048 bytes (kubelet-contract §5.15).
std::string last_lines(const std::string& output);

}  // namespace k8sgpu::providers::process
