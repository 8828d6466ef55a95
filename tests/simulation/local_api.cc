#include "tests/simulation/local_api.h"

#include "common/encoding.h"
#include "tests/simulation/objects.h"
#include "vnode/pod_status.h"

namespace k8sgpu::simulation {
namespace {

bool held(const Json& pod) {
    return !array_at(pod, {"metadata", "finalizers"}).empty();
}

Unexpected not_found() {
    return fail(ErrorKind::NotFound, "not found");
}

}  // namespace

Result<Json> LocalApi::create_pod(Json pod) {
    if (pod_named(kube::namespace_of(pod), kube::name_of(pod)) != nullptr)
        return fail(ErrorKind::AlreadyExists, "already exists");
    const std::string uid = kube::uid_of(pod);
    put(std::move(pod), "");
    return *pods_.at(uid);
}

Result<Json> LocalApi::patch_status(const PodId& id, const Json& patch, const Caller& by) {
    const auto found = pod_named(id.ns, id.name);
    if (found == nullptr) return not_found();
    const std::string uid = string_at(patch, {"metadata", "uid"});
    const std::string version = string_at(patch, {"metadata", "resourceVersion"});
    if (!uid.empty() && uid != kube::uid_of(*found)) return fail(ErrorKind::Conflict, "another uid");
    if (!version.empty() && version != kube::resource_version_of(*found))
        return fail(ErrorKind::Conflict, "the object has been modified");
    Json pod = *found;
    strategic_merge(pod["status"], object_at(patch, {"status"}));
    if (pod.at("status") == found->at("status")) return pod;  // no change, no version
    ++status_writes_;
    const std::string known = kube::uid_of(pod);
    put(std::move(pod), by);
    return *pods_.at(known);
}

Result<void> LocalApi::delete_pod(const std::string& ns, const std::string& name,
                                  std::optional<std::string> uid, std::optional<int> grace,
                                  const Caller& by) {
    const auto found = pod_named(ns, name);
    if (found == nullptr) return not_found();
    if (uid && *uid != kube::uid_of(*found)) return fail(ErrorKind::Conflict, "another uid");
    judge_.local_delete_asked(*found, uid.has_value(), by);
    std::int64_t seconds =
        grace.value_or(static_cast<int>(int_at(*found, {"spec", "terminationGracePeriodSeconds"}, 30)));
    if (vnode::is_terminal_phase(string_at(*found, {"status", "phase"}))) seconds = 0;
    if (seconds == 0 && !held(*found)) {
        drop(kube::uid_of(*found), by);
        return {};
    }
    const bool shorter = seconds < int_at(*found, {"metadata", "deletionGracePeriodSeconds"});
    if (kube::is_deleting(*found) && !shorter) return {};
    Json pod = *found;
    pod["metadata"]["deletionTimestamp"] = rfc3339_seconds(timeline_.true_wall());
    pod["metadata"]["deletionGracePeriodSeconds"] = seconds;
    put(std::move(pod), by);
    return {};
}

void LocalApi::edit_pod(const std::string& uid, const std::function<void(Json&)>& edit) {
    const auto found = pods_.find(uid);
    if (found == pods_.end()) return;
    Json pod = *found->second;
    edit(pod);
    const bool over = kube::is_deleting(pod) && !held(pod) &&
                      int_at(pod, {"metadata", "deletionGracePeriodSeconds"}, 30) == 0;
    if (over) return drop(uid, "");
    put(std::move(pod), "");
}

kube::ObjectPtr LocalApi::pod(const std::string& uid) const {
    const auto found = pods_.find(uid);
    return found == pods_.end() ? nullptr : found->second;
}

kube::ObjectPtr LocalApi::pod_named(const std::string& ns, const std::string& name) const {
    for (const auto& [uid, pod] : pods_) {
        if (kube::name_of(*pod) == name && kube::namespace_of(*pod) == ns) return pod;
    }
    return nullptr;
}

void LocalApi::put(Json pod, const Caller& by) {
    const std::string uid = kube::uid_of(pod);
    pod["metadata"]["resourceVersion"] = next_version();
    const kube::ObjectPtr before = this->pod(uid);
    const auto after = std::make_shared<const Json>(std::move(pod));
    pods_[uid] = after;
    judge_.local_changed(before.get(), after.get(), by);
    record(false, after);
}

void LocalApi::drop(const std::string& uid, const Caller& by) {
    Json last = *pods_.at(uid);
    pods_.erase(uid);
    last["metadata"]["resourceVersion"] = next_version();
    judge_.local_changed(&last, nullptr, by);
    record(true, std::make_shared<const Json>(std::move(last)));
}

Result<Json> LocalApi::create_other(Json object) {
    const std::string key = string_at(object, {"kind"}) + "/" + kube::name_of(object);
    if (others_.contains(key)) return fail(ErrorKind::AlreadyExists, "already exists");
    object["metadata"]["uid"] = fmt::format("o{}", ++made_);
    object["metadata"]["resourceVersion"] = next_version();
    return others_[key] = std::move(object);
}

Result<Json> LocalApi::get_other(const std::string& kind, const std::string& name) const {
    const auto found = others_.find(kind + "/" + name);
    if (found == others_.end()) return not_found();
    return found->second;
}

Result<Json> LocalApi::patch_other(const std::string& kind, const std::string& name, const Json& patch) {
    const auto found = others_.find(kind + "/" + name);
    if (found == others_.end()) return not_found();
    strategic_merge(found->second, patch);
    found->second["metadata"]["resourceVersion"] = next_version();
    return found->second;
}

Result<Json> LocalApi::replace_other(const Json& object) {
    const auto found = others_.find(string_at(object, {"kind"}) + "/" + kube::name_of(object));
    if (found == others_.end()) return not_found();
    if (kube::resource_version_of(object) != kube::resource_version_of(found->second))
        return fail(ErrorKind::Conflict, "the object has been modified");
    found->second = object;
    found->second["metadata"]["resourceVersion"] = next_version();
    return found->second;
}

}  // namespace k8sgpu::simulation
