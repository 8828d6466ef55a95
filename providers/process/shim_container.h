// One run of one container inside the shim: its main process, pipes, log and what it leaves behind. Belongs
// to the shim's thread.
#pragma once

#include <memory>
#include <optional>
#include <set>
#include <string>

#include "providers/process/log_writer.h"
#include "providers/process/machine.h"
#include "providers/process/paths.h"
#include "providers/process/process_table.h"

namespace k8sgpu::providers::process {

class ShimContainer {
  public:
    // Starts it. Errors carry the text for the termination message.
    static Result<std::unique_ptr<ShimContainer>> start(const PodPaths& paths, const PodIntent& intent,
                                                        std::size_t index, int run);
    ~ShimContainer();
    ShimContainer(const ShimContainer&) = delete;
    ShimContainer& operator=(const ShimContainer&) = delete;

    std::size_t index() const { return index_; }
    int run() const { return run_; }
    pid_t pid() const { return pid_; }
    std::uint64_t start_time() const { return start_time_; }
    int output(LogStream stream) const { return fds_[static_cast<std::size_t>(stream)]; }  // -1 once closed

    // Moves what is there, at most 64 KiB, to the log.
    void read_output(LogStream stream, WallTime now);

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
    ShimContainer(const PodPaths& paths, const PodIntent& intent, std::size_t index, int run);
    std::string termination_message(int exit_code) const;

    const PodPaths& paths_;
    const PodIntent& intent_;
    const ContainerIntent& container_;
    std::size_t index_;
    int run_;
    LogWriter log_;
    std::string last_output_;  // for FallbackToLogsOnError
    pid_t pid_ = -1;
    std::uint64_t start_time_ = 0;
    int fds_[2] = {-1, -1};
    std::optional<int> wait_status_;
};

// The end of what was printed: at most 80 lines and 2048 bytes (kubelet-contract §5.15).
std::string last_lines(const std::string& output);

}  // namespace k8sgpu::providers::process
