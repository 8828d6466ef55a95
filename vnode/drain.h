// `k8sgpu drain`: closes the node to new pods, evicts those it has and waits until they are gone, with
// kubectl drain's rules, words and flags. A run of its own, beside the agent, which ends the copies
// meanwhile.
//
// One thread, the caller's. Repeating it is harmless.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "kube/api_client.h"
#include "vnode/options.h"

namespace k8sgpu::vnode {

// What is to happen with the pods of a node. Pure.
struct DrainPlan {
    std::vector<Json> evict;
    std::vector<std::string> refusals;  // why it must not begin, in kubectl's words
    std::vector<std::string> warnings;
};
DrainPlan plan_drain(const std::vector<Json>& pods, const DrainOptions& options);

// Lines for standard output and standard error, without line breaks.
struct Console {
    std::function<void(const std::string&)> out;
    std::function<void(const std::string&)> err;
};

class Drainer {
  public:
    Drainer(kube::ApiClient& client, std::string node_name, DrainOptions options, Console console)
        : client_(client),
          node_name_(std::move(node_name)),
          options_(std::move(options)),
          console_(std::move(console)) {}

    // Until the pods are gone. Invalid when the plan refuses, Timeout when ctx ends first.
    Result<void> run(const CallContext& ctx);

    // All pods bound to the node, ended ones too.
    Result<std::vector<Json>> pods(const CallContext& ctx);

  private:
    Result<void> cordon(const CallContext& ctx);
    // True once it is taken; false when a PodDisruptionBudget does not allow it now.
    Result<bool> evict(const Json& pod, const CallContext& ctx);
    Result<bool> is_gone(const Json& pod, const CallContext& ctx);
    const char* suffix() const { return options_.dry_run ? " (dry run)" : ""; }

    kube::ApiClient& client_;
    std::string node_name_;
    DrainOptions options_;
    Console console_;
};

}  // namespace k8sgpu::vnode
