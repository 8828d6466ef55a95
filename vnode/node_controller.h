// Keeps our Node object as it must be: registers it, brings it back when somebody deletes it, reports status
// when it changed and every five minutes. Events in, the next call out; no thread, no clock, no network.
//
//   Unknown ──fetch──▶ Absent ──create──▶ Present ──(metadata, status patches)──▶ Present
//                        ▲─────────────── deleted by somebody ─────────────────────┘
//
// Not synchronised: NodeKeeper serialises. Foreign labels, taints and conditions are never written.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <variant>

#include "common/backoff.h"
#include "kube/reflector.h"
#include "vnode/node_object.h"
#include "vnode/pod_controller.h"

namespace k8sgpu::vnode {

struct FetchNode {};
struct CreateNode {
    Json node;
};
struct PatchNode {
    Json patch;
    std::string subresource;  // "" or "status"
    bool taints = false;      // may be refused: a node identity may not change its taints
};
using NodeCall = std::variant<FetchNode, CreateNode, PatchNode>;

class NodeController {
  public:
    // What the pods of this node use; asked only while allocatable is held down to it.
    using InUse = std::function<std::map<std::string, std::string>()>;

    NodeController(NodeConfig config, std::uint32_t seed, InUse in_use = nullptr);

    // The next call to make now, or nullopt until next_wakeup() or the next event.
    std::optional<NodeCall> next(Times now);
    SteadyTime next_wakeup() const { return wakeup_; }

    void on_node(kube::ObjectPtr node);  // seen by watch, fetch or as an answer
    void on_absent();                    // 404, or deleted under the watch
    void on_failed(const NodeCall& call, const Error& error, Times now);
    void on_succeeded(const NodeCall& call, Times now);
    void set_facts(NodeFacts facts) { facts_ = std::move(facts); }
    const NodeFacts& facts() const { return facts_; }

    // Empty until the Node exists; the lease is owned by this UID.
    std::string node_uid() const;
    bool registered() const { return node_ != nullptr && problem_.empty(); }
    // Why the Node cannot be kept, in words for a person; empty when all is well.
    const std::string& problem() const { return problem_; }

  private:
    enum class State { Unknown, Absent, Present };

    LinkReport link_report(SteadyTime now) const;

    NodeConfig config_;
    InUse in_use_;
    NodeFacts facts_;
    LinkState link_;
    State state_ = State::Unknown;
    kube::ObjectPtr node_;
    Backoff backoff_;
    SteadyTime not_before_{};
    SteadyTime next_report_{};  // status is posted by then even if nothing changed
    SteadyTime next_check_{};
    SteadyTime wakeup_{};
    std::string problem_;
};

}  // namespace k8sgpu::vnode
