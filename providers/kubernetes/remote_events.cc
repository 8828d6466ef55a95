#include "providers/kubernetes/remote_events.h"

#include <algorithm>

#include "common/log.h"
#include "kube/object.h"
#include "providers/kubernetes/status_map.h"

namespace k8sgpu::providers::kubernetes {
namespace {

// How often it happened so far; writers of the newer API count in `series`.
std::int64_t count_of(const Json& event) {
    return std::max<std::int64_t>({1, int_at(event, {"count"}), int_at(event, {"series", "count"})});
}

}  // namespace

void RemoteEvents::on_listed(std::vector<kube::ObjectPtr> objects) {
    std::map<std::string, std::int64_t> before;
    before.swap(told_);
    for (const kube::ObjectPtr& object : objects) {
        const std::string uid = kube::uid_of(*object);
        const auto known = before.find(uid);
        if (known != before.end()) told_[uid] = known->second;
        if (listed_) {
            tell(*object);
        } else {
            told_[uid] = count_of(*object);
        }
    }
    listed_ = true;
}

void RemoteEvents::on_applied(kube::ObjectPtr object) {
    tell(*object);
}

void RemoteEvents::on_deleted(kube::ObjectPtr object) {
    told_.erase(kube::uid_of(*object));
}

void RemoteEvents::tell(const Json& event) {
    if (string_at(event, {"involvedObject", "kind"}) != "Pod") return;
    const auto pod = owner_of_(string_at(event, {"involvedObject", "name"}));
    if (!pod) return;
    const std::int64_t count = count_of(event);
    std::int64_t& told = told_[kube::uid_of(event)];
    if (told >= count) return;
    told = count;
    const std::string reason = string_at(event, {"reason"});
    // The local scheduler has told where the pod went; a remote machine's name would only confuse.
    if (reason == "Scheduled") return;
    report_(*pod, string_at(event, {"type"}, "Normal"), reason,
            localize(string_at(event, {"message"}), *pod, namespace_,
                     string_at(event, {"involvedObject", "uid"})));
}

void RemoteEvents::on_error(const Error& error) {
    if (error.kind != ErrorKind::Forbidden) {
        log().debug("watching remote events: {}", error.message);
        return;
    }
    if (!complained_) {
        log().warn("events of remote pods are not shown, because the remote Role does not allow it: {}",
                   error.message);
    }
    complained_ = true;
}

}  // namespace k8sgpu::providers::kubernetes
