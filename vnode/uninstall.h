// `k8sgpu uninstall`: drain, wait until nothing of the node is left at the provider, wait until the agent has
// been stopped, then remove Node, Lease and our certificate requests. In this order nothing is orphaned: a
// Node that goes while its pods run takes them out of the API, and one that goes while its agent runs comes
// back.
//
// One thread, the caller's. Repeating it is harmless: what is gone is passed over.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "vnode/drain.h"

namespace k8sgpu::vnode {

// Names of what still carries the node's mark at the provider ("pod a", "secret b"); complete or an error.
using RemoteLeftovers = std::function<Result<std::vector<std::string>>(const CallContext&)>;

class Uninstaller {
  public:
    Uninstaller(kube::ApiClient& client, const Options& options, Console console, RemoteLeftovers leftovers)
        : client_(client),
          options_(options),
          console_(std::move(console)),
          leftovers_(std::move(leftovers)) {}

    Result<void> run(const CallContext& ctx);

  private:
    Result<void> empty_node(const CallContext& ctx);
    Result<void> wait_for_remote(const CallContext& ctx);
    Result<void> wait_for_agent(const CallContext& ctx);
    Result<void> remove_node(const CallContext& ctx);
    Result<void> remove_requests(const CallContext& ctx);
    // The lease as it is; nullopt without one.
    Result<std::optional<Json>> lease(const CallContext& ctx);
    // Whether somebody renews the lease, by looking at it for a while.
    Result<bool> is_renewed(const CallContext& ctx);
    Result<void> pause(const CallContext& ctx, const std::string& waiting_for);

    kube::ApiClient& client_;
    const Options& options_;
    Console console_;
    RemoteLeftovers leftovers_;
};

}  // namespace k8sgpu::vnode
