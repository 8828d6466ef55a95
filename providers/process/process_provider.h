// The provider `process`: each pod is a group of processes on this host under a shim of its own (shim.h), so
// pods outlive the agent and are adopted after its restart. All state is in files (paths.h); this class only
// reads and orders.
//
// Owned by vnode/app. Threads: provider.h's rules, plus one of its own, "prov-process", which alone calls the
// observer; stop() joins it. Pods keep running after stop().
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "common/guarded.h"
#include "providers/port/environment.h"
#include "providers/port/exec.h"
#include "providers/port/local_objects.h"
#include "providers/port/logs.h"
#include "providers/port/provider.h"
#include "providers/process/check.h"
#include "providers/process/pod_store.h"
#include "providers/process/usage.h"
#include "providers/process/watcher.h"

namespace k8sgpu::providers::process {

struct ProcessProviderOptions {
    std::string state_directory;  // absolute; made when missing, 0711, ours alone to write
    // What starts a shim; "--dir <directory>" follows. The program must call shim_main().
    std::vector<std::string> shim_command = {"/proc/self/exe", "process-shim"};
    NodeFacts node;  // for the downward API; what allocatable lacks is taken from capacity
    // Over the host's own figures; "nvidia.com/gpu": "8" offers the GPUs 0…7 to pods, each to one at a time.
    std::map<std::string, std::string> capacity;
    ShimLimits limits;
    HostUser user = HostUser::current();
    // How long the trace of a removed pod stays after this agent first saw that it has ended, so that one
    // that was restarted in between still learns exit codes.
    Duration linger{5'000};
};

class ProcessProvider final : public Provider,
                              public LogSource,
                              public Executor,
                              public Attacher,
                              public PortForwarder,
                              public StatsSource {
  public:
    // `clock` and `objects` outlive the provider.
    ProcessProvider(ProcessProviderOptions options, Clock& clock, LocalObjects& objects);
    ~ProcessProvider() override;

    std::string name() const override { return "process"; }
    Result<void> start(ProviderObserver& observer) override;
    void stop() override;

    std::optional<Refused> check(const DesiredPod& pod) const override;
    Result<EnsureOutcome> ensure(const DesiredPod& pod, const CallContext& ctx) override;
    Result<void> update(const DesiredPod& pod, const CallContext& ctx) override;
    Result<void> remove(const PodId& pod, std::chrono::seconds grace, const CallContext& ctx) override;
    Result<ObservedPod> observe(const PodId& pod, const CallContext& ctx) override;
    Result<std::vector<ObservedPod>> list(const CallContext& ctx) override;
    Result<std::map<std::string, std::string>> capacity(const CallContext& ctx) override;

    LogSource* logs() override { return this; }
    Executor* executor() override { return this; }
    Attacher* attacher() override { return this; }
    PortForwarder* port_forwarder() override { return this; }
    StatsSource* stats() override { return this; }

    Result<void> logs(const LogRequest& request, LogSink& sink, const CallContext& ctx) override;
    bool splits_streams() const override { return true; }
    Result<ExitStatus> exec(const ExecRequest& request, ExecIo& io, const CallContext& ctx) override;
    Result<void> attach(const ExecRequest& request, ExecIo& io, const CallContext& ctx) override;
    // To ports that processes of the pod listen on at the loopback addresses (port_owner.h), to no others.
    std::unique_ptr<PodPorts> ports_of(const PodId& pod) override;
    Result<StatsReport> stats(const CallContext& ctx) override;

  private:
    class Ports;
    // Where the pod listens on this port: "127.0.0.1" or "::1". Unavailable when it does not.
    Result<std::string> address_of(const PodId& pod, std::uint16_t port) const;
    CheckFacts check_facts() const;
    // The pod, if this container of it runs; else NotFound.
    Result<PodTrace> running(const PodId& pod, const std::string& container) const;
    // Creates the trace of a pod that has none; nullopt once it is there.
    Result<std::optional<EnsureOutcome>> create(const DesiredPod& desired, const CallContext& ctx);
    Result<std::vector<int>> free_gpus() const;
    // Says, once for each, that a new image changes nothing for a running process.
    void note_images(const DesiredPod& pod, const PodIntent& running);
    Result<void> erase(const PodTrace& trace, const PodId& pod);

    ProcessProviderOptions options_;
    Clock& clock_;
    LocalObjects& objects_;
    PodStore store_;
    std::mutex creating_;  // GPUs are counted and taken in one step; held over file operations only
    Guarded<std::set<std::string>> images_noted_;  // uid/container/image
    UsageReader usage_;
    std::unique_ptr<Watcher> watcher_;
};

}  // namespace k8sgpu::providers::process
