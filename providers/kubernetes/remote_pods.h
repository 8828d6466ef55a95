// What we know of our pods in the tenant namespace: the handler of the one watch over them, and the index
// that the rest of the provider asks.
//
// The handler methods run on the watch thread and call the listener there, without a lock held; lookups may
// come from any thread. Only pods with our whole mark get in. A pod that leaves the watch without having been
// asked to end may be gone, or may only have lost its labels: the listener is told which is the case and
// finds out, because to call a running pod gone is to leak it.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "common/guarded.h"
#include "kube/reflector.h"
#include "providers/kubernetes/local_inputs.h"
#include "providers/kubernetes/owner_mark.h"

namespace k8sgpu::providers::kubernetes {

struct RemotePod {
    PodId id;                    // the local pod
    kube::ObjectPtr object;      // the remote one, as last seen
    std::set<ObjectKey> copies;  // what it names in the tenant namespace
};

class RemotePods final : public kube::ReflectorHandler {
  public:
    class Listener {
      public:
        virtual ~Listener() = default;
        virtual void on_present(const RemotePod& pod) = 0;
        virtual void on_gone(const RemotePod& pod) = 0;
        virtual void on_vanished(const RemotePod& pod) = 0;
        virtual void on_watching() = 0;  // a complete list was taken in, or the watch works again
        virtual void on_watch_failed(const Error& error) = 0;
    };

    RemotePods(OwnerMark owner, Listener& listener) : owner_(std::move(owner)), listener_(listener) {}

    std::optional<RemotePod> find(const std::string& local_uid) const;
    std::vector<RemotePod> all() const;
    // Whose remote pod has this name? Known from expect() on, before the watch brings the pod itself.
    std::optional<PodId> owner_of_name(const std::string& remote_name) const;
    void expect(const PodId& pod);
    void expect_no_more(const PodId& pod);
    bool uses(const ObjectKey& copy) const;
    bool synced() const;

    void on_listed(std::vector<kube::ObjectPtr> objects) override;
    void on_applied(kube::ObjectPtr object) override;
    void on_deleted(kube::ObjectPtr object) override;
    void on_error(const Error& error) override { listener_.on_watch_failed(error); }
    void on_recovered() override { listener_.on_watching(); }

  private:
    struct State {
        std::map<std::string, RemotePod> by_local_uid;
        std::map<std::string, std::string> local_uid_of;  // by remote UID
        std::map<std::string, PodId> expected;            // by remote name
        bool synced = false;
    };

    std::optional<PodId> owner_of_uid(const std::string& remote_uid) const;
    std::optional<RemotePod> recognise(const kube::ObjectPtr& object);
    static void insert(State& state, RemotePod pod);
    void report_absent(const RemotePod& pod, bool asked_to_end);

    const OwnerMark owner_;
    Listener& listener_;
    Guarded<State> state_;
    std::set<std::string> strangers_;  // remote UIDs complained about; watch thread only
};

}  // namespace k8sgpu::providers::kubernetes
