// Copies of the ConfigMaps and Secrets that our remote pods name, in the tenant namespace. One copy per
// source object, shared by all pods of this node that use it; made before the pod, collected after the last
// one.
//
// In use is what a remote pod of ours names, and what an ensure() under way holds for its pod. Each copy's
// name is worked on by one call at a time, so a collection can never take away what a pod is about to need:
// either it sees the hold, or ensure() comes after the delete and makes the copy anew. Any thread.
#pragma once

#include <condition_variable>
#include <functional>
#include <map>
#include <set>
#include <string>

#include "common/guarded.h"
#include "kube/api_client.h"
#include "providers/kubernetes/local_inputs.h"
#include "providers/kubernetes/owner_mark.h"

namespace k8sgpu::providers::kubernetes {

// The copy as it should be. Pure. Labels and annotations of the source stay behind: they drive controllers.
Json copy_of(LocalKind kind, const Json& source, const OwnerMark& owner, const std::string& remote_namespace);

// True when both hold the same content, type and immutability.
bool same_content(LocalKind kind, const Json& a, const Json& b);

class ObjectCopies {
  public:
    ObjectCopies(kube::ApiClient& remote, std::string remote_namespace, OwnerMark owner)
        : remote_(remote), namespace_(std::move(remote_namespace)), owner_(std::move(owner)) {}

    // Makes the copy of `source` (which names its namespace and name) what it should be, and holds it for
    // this pod until release(). Forbidden when an object of that name is not ours.
    Result<void> ensure(LocalKind kind, const Json& source, const std::string& pod_uid,
                        const CallContext& ctx);

    // Lets go of everything held for this pod: it is seen in the tenant namespace, or will not come.
    void release(const std::string& pod_uid);

    // Deletes our copies that nobody holds and `in_use` (by name in the tenant namespace; any thread, quick)
    // does not know. Returns how many.
    Result<std::size_t> collect(const std::function<bool(const ObjectKey&)>& in_use, const CallContext& ctx);

  private:
    struct State {
        std::set<ObjectKey> busy;
        std::map<std::string, std::set<ObjectKey>> held;  // by pod UID
        std::set<ObjectKey> seen;                         // known to have existed: ask before creating
    };
    class Turn;  // the right to work on one name

    Result<void> make(LocalKind kind, const Json& wanted, const CallContext& ctx);
    Result<void> repair(LocalKind kind, const Json& existing, Json wanted, const CallContext& ctx);
    Result<bool> collect_one(const ObjectKey& key, const Json& copy,
                             const std::function<bool(const ObjectKey&)>& in_use, const CallContext& ctx);
    bool held(const ObjectKey& key) const;

    kube::ApiClient& remote_;
    const std::string namespace_;
    const OwnerMark owner_;
    Guarded<State> state_;
    std::condition_variable_any free_;
};

}  // namespace k8sgpu::providers::kubernetes
