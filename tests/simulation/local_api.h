// The API server of a simulated local cluster: pods, the Node and its Lease, with resource versions, UID and
// version preconditions, graceful deletion, finalizers and a history that watches read and that is compacted.
// Every method is one atomic request. The rules are the API server's (kubelet-contract §5.6 for deletion).
#pragma once

#include <map>
#include <string>
#include <vector>

#include "common/result.h"
#include "kube/reflector.h"
#include "tests/simulation/judge.h"
#include "tests/simulation/watch.h"

namespace k8sgpu::simulation {

class LocalApi final : public WatchSource {
  public:
    LocalApi(Timeline& timeline, Judge& judge) : timeline_(timeline), judge_(judge) {}

    // ---- pods
    Result<Json> create_pod(Json pod);
    Result<Json> patch_status(const PodId& id, const Json& patch, const Caller& by);
    // Without grace: what the pod's spec says. 0 takes the object away, unless finalizers hold it.
    Result<void> delete_pod(const std::string& ns, const std::string& name, std::optional<std::string> uid,
                            std::optional<int> grace, const Caller& by);
    // A change by anybody else, unconditional.
    void edit_pod(const std::string& uid, const std::function<void(Json&)>& edit);
    kube::ObjectPtr pod(const std::string& uid) const;
    kube::ObjectPtr pod_named(const std::string& ns, const std::string& name) const;
    const std::map<std::string, kube::ObjectPtr>& pods() const { return pods_; }

    // ---- Node and Lease
    Result<Json> create_other(Json object);
    Result<Json> get_other(const std::string& kind, const std::string& name) const;
    Result<Json> patch_other(const std::string& kind, const std::string& name, const Json& patch);
    Result<Json> replace_other(const Json& object);
    void delete_other(const std::string& kind, const std::string& name) { others_.erase(kind + "/" + name); }

    int status_writes() const { return status_writes_; }

  private:
    std::string next_version() { return std::to_string(advance()); }
    void put(Json pod, const Caller& by);
    void drop(const std::string& uid, const Caller& by);

    Timeline& timeline_;
    Judge& judge_;
    std::map<std::string, kube::ObjectPtr> pods_;  // by UID
    std::map<std::string, Json> others_;           // "<kind>/<name>"
    int made_ = 0;
    int status_writes_ = 0;
};

}  // namespace k8sgpu::simulation
