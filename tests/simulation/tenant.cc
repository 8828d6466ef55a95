#include "tests/simulation/tenant.h"

#include "common/encoding.h"
#include "tests/simulation/objects.h"

namespace k8sgpu::simulation {

using providers::ObservedPod;
using providers::kubernetes::OwnerMark;

Result<Json> Tenant::create(const std::string& name, const OwnerMark& owner, const PodId& id, const Json& pod,
                            const Caller& by, const Judge::Request& request) {
    if (copies_.contains(name)) return fail(ErrorKind::AlreadyExists, "already exists");
    const auto script = providers::simulated::read_script(pod);
    if (!script) return fail(script.error());
    judge_.copy_created(id, by, request);
    Copy copy;
    copy.id = id;
    copy.owner = by;
    copy.object = {{"metadata", {{"namespace", "gpu"}, {"name", name}, {"uid", fmt::format("r{}", ++made_)}}},
                   {"spec", Json::object()}};
    providers::kubernetes::mark_pod(copy.object["metadata"], owner, id);
    copies_[name] = copy;
    backend_.create({"gpu", name, name}, pod, *script, kube::uid_of(copy.object), timeline_.true_wall());
    live();
    return copies_.at(name).object;
}

Result<Json> Tenant::get(const std::string& name) const {
    const auto found = copies_.find(name);
    if (found == copies_.end()) return fail(ErrorKind::NotFound, "not found");
    return found->second.object;
}

Result<void> Tenant::remove(const std::string& name, std::optional<std::string> uid,
                            std::chrono::seconds grace, const Caller& by) {
    const auto found = copies_.find(name);
    if (found == copies_.end()) return fail(ErrorKind::NotFound, "not found");
    const Copy& copy = found->second;
    if (uid && *uid != kube::uid_of(copy.object)) return fail(ErrorKind::Conflict, "another uid");
    judge_.copy_delete_asked(name, copy.id, copy.owner, uid.has_value(), by);
    backend_.remove(name, grace, timeline_.true_wall());
    live();
    return {};
}

std::vector<Json> Tenant::list(const OwnerMark& owner, std::uint64_t version) const {
    std::vector<Json> objects;
    for (const auto& [uid, object] : at_version(version)) {
        if (providers::kubernetes::marked_pod(*object, owner)) objects.push_back(*object);
    }
    return objects;
}

void Tenant::create_foreign(const std::string& name) {
    if (copies_.contains(name)) return;
    Copy copy;
    copy.object = {{"metadata", {{"namespace", "gpu"}, {"name", name}, {"uid", fmt::format("r{}", ++made_)}}},
                   {"spec", Json::object()}};
    copies_[name] = copy;
    backend_.create({"gpu", name, name}, make_pod(name, name), {}, kube::uid_of(copy.object),
                    timeline_.true_wall());
    live();
}

void Tenant::remove_by_others(const std::string& name, bool at_once) {
    const auto found = copies_.find(name);
    if (found == copies_.end()) return;
    timeline_.trace("somebody {} copy {}", at_once ? "loses" : "deletes", name);
    if (found->second.id) judge_.copy_deleted_by_others(*found->second.id);
    if (at_once) {
        backend_.vanish(name);
    } else {
        backend_.remove(name, std::chrono::seconds(5), timeline_.true_wall());
    }
    live();
}

void Tenant::live() {
    for (const ObservedPod& seen : backend_.step(timeline_.true_wall())) take(seen);
    plan();
}

void Tenant::plan() {
    const auto next = backend_.next_change();
    if (!next) return;
    const SteadyTime when =
        timeline_.now() +
        std::max(std::chrono::duration_cast<Duration>(*next - timeline_.true_wall()), Duration(0));
    if (when >= planned_) return;
    planned_ = when;
    timeline_.at(when, [this] {
        planned_ = SteadyTime::max();
        live();
    });
}

void Tenant::take(const ObservedPod& seen) {
    Copy& copy = copies_.at(seen.id.uid);
    Json& metadata = copy.object["metadata"];
    copy.object["status"] = seen.status;
    copy.may_be_running = seen.may_be_running;
    if (seen.removing) metadata["deletionTimestamp"] = rfc3339_seconds(timeline_.true_wall());
    metadata["resourceVersion"] = std::to_string(advance());
    timeline_.trace("copy {}: {}{}", seen.id.uid, string_at(seen.status, {"phase"}),
                    seen.gone ? ", gone" : (seen.removing ? ", being removed" : ""));
    if (copy.id) {
        ObservedPod told = seen;
        told.id = *copy.id;
        judge_.copy_changed(told);
    }
    const auto object = std::make_shared<const Json>(copy.object);
    if (seen.gone) copies_.erase(seen.id.uid);
    record(seen.gone, object);
}

}  // namespace k8sgpu::simulation
