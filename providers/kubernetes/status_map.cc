#include "providers/kubernetes/status_map.h"

#include "kube/object.h"
#include "providers/kubernetes/names.h"

namespace k8sgpu::providers::kubernetes {
namespace {

constexpr std::initializer_list<const char*> kStatusLists = {"initContainerStatuses", "containerStatuses",
                                                             "ephemeralContainerStatuses"};

void replace_all(std::string& text, std::string_view from, std::string_view to) {
    if (from.empty()) return;
    for (std::size_t at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size())) {
        text.replace(at, from.size(), to);
    }
}

bool any_running(const Json& status) {
    for (const char* list : kStatusLists) {
        for (const Json& container : array_at(status, {list})) {
            if (object_at(container, {"state"}).contains("running")) return true;
        }
    }
    return false;
}

// The remote kubelet publishes a terminal phase only once every container has ended. Others (pod garbage
// collection, taint eviction) set it too, for a machine that may still be running them: then the statuses
// say so.
bool may_be_running(const Json& status) {
    const std::string phase = string_at(status, {"phase"});
    if (phase != "Succeeded" && phase != "Failed") return true;
    return any_running(status);
}

class Localizer {
  public:
    Localizer(const PodId& id, const Json& remote)
        : id_(id), ns_(kube::namespace_of(remote)), uid_(kube::uid_of(remote)) {}

    void text(Json& parent, const char* key) const {
        const auto found = parent.find(key);
        if (found == parent.end() || !found->is_string()) return;
        *found = localize(found->get<std::string>(), id_, ns_, uid_);
    }

  private:
    const PodId& id_;
    std::string ns_, uid_;
};

Json local_status(const PodId& id, const Json& remote) {
    Json status = object_at(remote, {"status"});
    const Localizer localizer(id, remote);
    localizer.text(status, "message");
    if (const auto conditions = status.find("conditions"); conditions != status.end()) {
        for (Json& condition : *conditions) localizer.text(condition, "message");
    }
    for (const char* list : kStatusLists) {
        const auto containers = status.find(list);
        if (containers == status.end() || !containers->is_array()) continue;
        for (Json& container : *containers) {
            // Only waiting messages are the kubelet's words; a terminated one's may be the program's own.
            if (object_at(container, {"state"}).contains("waiting")) {
                localizer.text(container["state"]["waiting"], "message");
            }
        }
    }
    return status;
}

}  // namespace

std::string localize(std::string text, const PodId& local, std::string_view remote_namespace,
                     std::string_view remote_uid) {
    const std::string name = remote_pod_name(local);
    replace_all(text, name + "_" + std::string(remote_namespace), local.name + "_" + local.ns);
    replace_all(text, std::string(remote_namespace) + "/" + name, local.ns + "/" + local.name);
    replace_all(text, name, local.name);
    replace_all(text, remote_uid, local.uid);
    return text;
}

ObservedPod observed_from(const PodId& id, const Json& remote_pod) {
    ObservedPod pod;
    pod.id = id;
    pod.status = local_status(id, remote_pod);
    pod.may_be_running = may_be_running(pod.status);
    pod.removing = kube::is_deleting(remote_pod);
    pod.backend_id = kube::uid_of(remote_pod);
    return pod;
}

ObservedPod gone_from(const PodId& id, const Json& last_remote_pod) {
    ObservedPod pod = observed_from(id, last_remote_pod);
    pod.gone = true;
    pod.may_be_running = false;
    return pod;
}

}  // namespace k8sgpu::providers::kubernetes
