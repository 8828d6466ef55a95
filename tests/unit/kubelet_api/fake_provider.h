// A provider whose abilities are what a test puts into it, and a PodLookup over a map.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "common/guarded.h"
#include "kubelet_api/pod_lookup.h"
#include "providers/port/exec.h"
#include "providers/port/logs.h"
#include "providers/port/provider.h"
#include "providers/port/stats.h"

namespace k8sgpu::kubelet_api {

class FakeProvider final : public providers::Provider,
                           public providers::LogSource,
                           public providers::StatsSource,
                           public providers::Executor,
                           public providers::Attacher,
                           public providers::PortForwarder {
  public:
    std::string name() const override { return "fake"; }
    Result<void> start(providers::ProviderObserver&) override { return {}; }
    void stop() override {}
    std::optional<providers::Refused> check(const providers::DesiredPod&) const override {
        return std::nullopt;
    }
    Result<providers::EnsureOutcome> ensure(const providers::DesiredPod&, const CallContext&) override {
        return providers::EnsureOutcome(providers::Accepted{});
    }
    Result<void> update(const providers::DesiredPod&, const CallContext&) override { return {}; }
    Result<void> remove(const PodId&, std::chrono::seconds, const CallContext&) override { return {}; }
    Result<providers::ObservedPod> observe(const PodId&, const CallContext&) override {
        return providers::ObservedPod{};
    }
    Result<std::vector<providers::ObservedPod>> list(const CallContext&) override {
        return std::vector<providers::ObservedPod>{};
    }
    Result<std::map<std::string, std::string>> capacity(const CallContext&) override {
        return std::map<std::string, std::string>{};
    }

    providers::LogSource* logs() override { return on_logs ? this : nullptr; }
    providers::StatsSource* stats() override { return on_stats ? this : nullptr; }
    providers::Executor* executor() override { return on_exec ? this : nullptr; }
    providers::Attacher* attacher() override { return on_attach ? this : nullptr; }
    providers::PortForwarder* port_forwarder() override { return on_connect ? this : nullptr; }

    Result<void> logs(const providers::LogRequest& request, providers::LogSink& sink,
                      const CallContext& ctx) override {
        return on_logs(request, sink, ctx);
    }
    bool splits_streams() const override { return keeps_streams_apart; }
    Result<providers::StatsReport> stats(const CallContext& ctx) override { return on_stats(ctx); }
    Result<providers::ExitStatus> exec(const providers::ExecRequest& request, providers::ExecIo& io,
                                       const CallContext& ctx) override {
        return on_exec(request, io, ctx);
    }
    Result<void> attach(const providers::ExecRequest& request, providers::ExecIo& io,
                        const CallContext& ctx) override {
        return on_attach(request, io, ctx);
    }
    std::unique_ptr<providers::PodPorts> ports_of(const PodId& pod) override {
        struct Ports final : providers::PodPorts {
            Ports(FakeProvider& owner_, PodId pod_) : owner(owner_), pod(std::move(pod_)) {}
            Result<std::unique_ptr<net::ByteStream>> connect(std::uint16_t port,
                                                             const CallContext& ctx) override {
                return owner.on_connect(pod, port, ctx);
            }
            FakeProvider& owner;
            PodId pod;
        };
        return std::make_unique<Ports>(*this, pod);
    }

    std::function<Result<void>(const providers::LogRequest&, providers::LogSink&, const CallContext&)>
        on_logs;
    bool keeps_streams_apart = false;
    std::function<Result<providers::StatsReport>(const CallContext&)> on_stats;
    std::function<Result<providers::ExitStatus>(const providers::ExecRequest&, providers::ExecIo&,
                                                const CallContext&)>
        on_exec;
    std::function<Result<void>(const providers::ExecRequest&, providers::ExecIo&, const CallContext&)>
        on_attach;
    std::function<Result<std::unique_ptr<net::ByteStream>>(const PodId&, std::uint16_t, const CallContext&)>
        on_connect;
};

// A pod "ns/p" with container "c"; `state` is the container's state, {"running": {}} for example.
inline Json pod_json(const Json& state, const Json& last_state = Json::object()) {
    return {
        {"apiVersion", "v1"},
        {"kind", "Pod"},
        {"metadata", {{"name", "p"}, {"namespace", "ns"}, {"uid", "uid-p"}}},
        {"spec",
         {{"containers", {{{"name", "c"}, {"image", "busybox"}}, {{"name", "fresh"}, {"image", "x"}}}},
          {"initContainers", {{{"name", "init"}, {"image", "y"}}}}}},
        {"status",
         {{"phase", "Running"},
          {"containerStatuses", {{{"name", "c"}, {"state", state}, {"lastState", last_state}}}},
          {"initContainerStatuses",
           {{{"name", "init"}, {"state", {{"terminated", {{"containerID", "x://1"}, {"exitCode", 0}}}}}}}}}}};
}

class MapLookup final : public PodLookup {
  public:
    void put(PodView view) { (*pods_.lock())[view.id.full_name()] = std::move(view); }
    void erase(const std::string& full_name) { pods_.lock()->erase(full_name); }
    std::optional<PodView> find(std::string_view ns, std::string_view name) const override {
        auto pods = pods_.lock();
        const auto found = pods->find(std::string(ns) + "/" + std::string(name));
        if (found == pods->end()) return std::nullopt;
        return found->second;
    }
    std::vector<PodView> list() const override {
        std::vector<PodView> out;
        auto pods = pods_.lock();
        for (const auto& [name, view] : *pods) out.push_back(view);
        return out;
    }

    std::vector<providers::Provider*> providers() const override { return runs_pods; }

    std::vector<providers::Provider*> runs_pods;

  private:
    Guarded<std::map<std::string, PodView>> pods_;
};

}  // namespace k8sgpu::kubelet_api
