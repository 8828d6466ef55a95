// What the Node says while its provider cannot be reached: closed to new pods after ten seconds, by a taint
// or, where our identity may not set one, by an allocatable that falls to what is in use; NotReady only if
// the operator wants that, because the control plane evicts pods from an unready node.
//
// Pure; owned by NodeController, whose serialisation it shares. Docs: docs/node.md, "When the provider cannot
// be reached".
#pragma once

#include <optional>
#include <string>

#include "common/clock.h"
#include "common/json.h"

namespace k8sgpu::vnode {

inline constexpr std::string_view kUnreachableTaint = "k8s.gpu/remote-unreachable";

enum class Reach { Unknown, Reachable, Unreachable };  // Unknown: no word from the provider since our start

struct LinkPolicy {
    bool not_ready = false;   // --remote-unreachable-policy
    Duration grace{300'000};  // --remote-unreachable-grace: unreachable for so long before NotReady
};

class LinkState {
  public:
    void set_policy(LinkPolicy policy) { policy_ = policy; }
    // What the provider says now. Words for the same state are taken over once a minute at most: they often
    // hold a number, and each change is a write of the Node.
    void observe(Reach reach, const std::string& message, SteadyTime now);

    Reach reach() const { return reach_; }
    const std::string& message() const { return message_; }
    bool closed(SteadyTime now) const;     // to new pods
    bool not_ready(SteadyTime now) const;  // by policy
    // When closed() or not_ready() changes by itself.
    std::optional<SteadyTime> next_change(SteadyTime now) const;

    // Patch that sets or removes our taint and no other, with the version seen as precondition (the list is
    // replaced as a whole); null when there is nothing to do, or taints were refused a moment ago.
    Json taint_patch(const Json& node, SteadyTime now) const;
    // The API server answered Forbidden. Asked again after a while: a server that has just started refuses
    // much.
    void on_taint_refused(SteadyTime now);
    void on_taint_written() { taint_refused_ = false; }
    // Closed, and not by a taint.
    bool holds_back(SteadyTime now) const { return taint_refused_ && closed(now); }

  private:
    LinkPolicy policy_;
    Reach reach_ = Reach::Unknown;
    std::string message_;
    SteadyTime since_{};    // of reach_
    SteadyTime told_at_{};  // when message_ was taken
    bool taint_refused_ = false;
    SteadyTime ask_again_{};
};

}  // namespace k8sgpu::vnode
