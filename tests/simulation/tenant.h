// The tenant's namespace at the remote cluster: an API server for pods in front of the simulated backend,
// which lives their lives. Used by several agents and by strangers. Names and marks are the real ones
// (providers/kubernetes/owner_mark.h). Every method is one atomic request.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "common/result.h"
#include "providers/kubernetes/owner_mark.h"
#include "providers/simulated/backend.h"
#include "tests/simulation/judge.h"
#include "tests/simulation/watch.h"

namespace k8sgpu::simulation {

class Tenant final : public WatchSource {
  public:
    Tenant(Timeline& timeline, Judge& judge) : timeline_(timeline), judge_(judge) {}

    // A pod of that name for a local pod, with the mark of its owner; `pod` says what it will do.
    Result<Json> create(const std::string& name, const providers::kubernetes::OwnerMark& owner,
                        const PodId& id, const Json& pod, const Caller& by, const Judge::Request& request);
    Result<Json> get(const std::string& name) const;
    Result<void> remove(const std::string& name, std::optional<std::string> uid, std::chrono::seconds grace,
                        const Caller& by);
    std::vector<Json> list(const providers::kubernetes::OwnerMark& owner, std::uint64_t version) const;

    // Somebody else's pod, without any mark.
    void create_foreign(const std::string& name);
    // Others delete a copy: in order, or with the machine on which it ran.
    void remove_by_others(const std::string& name, bool at_once);

    struct Copy {
        Json object;
        std::optional<PodId> id;  // of the local pod that it is for
        Caller owner;             // the cluster of that pod; "" for strangers
        bool may_be_running = true;
    };
    const std::map<std::string, Copy>& copies() const { return copies_; }  // by name

  private:
    void live();
    void plan();
    void take(const providers::ObservedPod& seen);

    Timeline& timeline_;
    Judge& judge_;
    providers::simulated::SimulatedBackend backend_;  // its key is the copy's name
    std::map<std::string, Copy> copies_;
    SteadyTime planned_{SteadyTime::max()};
    int made_ = 0;
};

}  // namespace k8sgpu::simulation
