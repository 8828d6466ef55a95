#include "providers/kubernetes/remote_pods.h"

#include <algorithm>

#include "common/log.h"
#include "kube/object.h"

namespace k8sgpu::providers::kubernetes {

std::vector<RemotePod> RemotePods::all() const {
    std::vector<RemotePod> pods;
    auto state = state_.lock();
    for (const auto& [uid, pod] : state->by_local_uid) pods.push_back(pod);
    return pods;
}

std::optional<RemotePod> RemotePods::find(const std::string& local_uid) const {
    auto state = state_.lock();
    const auto found = state->by_local_uid.find(local_uid);
    if (found == state->by_local_uid.end()) return std::nullopt;
    return found->second;
}

std::optional<PodId> RemotePods::owner_of_name(const std::string& remote_name) const {
    auto state = state_.lock();
    const auto expected = state->expected.find(remote_name);
    if (expected == state->expected.end()) return std::nullopt;
    return expected->second;
}

void RemotePods::expect(const PodId& pod) {
    state_.lock()->expected[remote_pod_name(pod)] = pod;
}

void RemotePods::expect_no_more(const PodId& pod) {
    auto state = state_.lock();
    if (!state->by_local_uid.contains(pod.uid)) state->expected.erase(remote_pod_name(pod));
}

std::optional<PodId> RemotePods::owner_of_uid(const std::string& remote_uid) const {
    auto state = state_.lock();
    const auto uid = state->local_uid_of.find(remote_uid);
    if (uid == state->local_uid_of.end()) return std::nullopt;
    return state->by_local_uid.at(uid->second).id;
}

bool RemotePods::uses(const ObjectKey& copy) const {
    auto state = state_.lock();
    return std::any_of(state->by_local_uid.begin(), state->by_local_uid.end(),
                       [&](const auto& entry) { return entry.second.copies.contains(copy); });
}

bool RemotePods::synced() const {
    return state_.lock()->synced;
}

std::optional<RemotePod> RemotePods::recognise(const kube::ObjectPtr& object) {
    auto id = marked_pod(*object, owner_);
    // One that we knew with its mark stays ours to report although somebody edited the mark.
    if (!id) id = owner_of_uid(kube::uid_of(*object));
    if (!id) {
        if (strangers_.insert(kube::uid_of(*object)).second) {
            log().warn(
                "remote pod {}/{} carries this node's labels but not its whole owner mark; it is left alone",
                kube::namespace_of(*object), kube::name_of(*object));
        }
        return std::nullopt;
    }
    RemotePod pod{std::move(*id), object, {}};
    for (const ObjectReference& reference : collect_references(*object)) {
        pod.copies.emplace(reference.kind, reference.name);
    }
    return pod;
}

void RemotePods::insert(State& state, RemotePod pod) {
    const auto before = state.by_local_uid.find(pod.id.uid);
    if (before != state.by_local_uid.end()) state.local_uid_of.erase(kube::uid_of(*before->second.object));
    state.local_uid_of[kube::uid_of(*pod.object)] = pod.id.uid;
    state.expected[kube::name_of(*pod.object)] = pod.id;
    state.by_local_uid[pod.id.uid] = std::move(pod);
}

void RemotePods::on_listed(std::vector<kube::ObjectPtr> objects) {
    std::vector<RemotePod> present;
    for (const kube::ObjectPtr& object : objects) {
        if (auto pod = recognise(object)) present.push_back(std::move(*pod));
    }
    std::map<std::string, RemotePod> absent;
    {
        auto state = state_.lock();
        absent.swap(state->by_local_uid);
        state->local_uid_of.clear();
        for (const RemotePod& pod : present) {
            absent.erase(pod.id.uid);
            insert(*state, pod);
        }
        state->synced = true;
    }
    listener_.on_watching();
    for (const RemotePod& pod : present) listener_.on_present(pod);
    for (const auto& [uid, pod] : absent) report_absent(pod, kube::is_deleting(*pod.object));
}

void RemotePods::on_applied(kube::ObjectPtr object) {
    auto pod = recognise(object);
    if (!pod) return;
    insert(*state_.lock(), *pod);
    listener_.on_present(*pod);
}

void RemotePods::on_deleted(kube::ObjectPtr object) {
    strangers_.erase(kube::uid_of(*object));
    std::optional<RemotePod> pod;
    {
        auto state = state_.lock();
        const auto uid = state->local_uid_of.find(kube::uid_of(*object));
        if (uid == state->local_uid_of.end()) return;  // replaced by a newer object, or never ours
        const auto entry = state->by_local_uid.find(uid->second);
        pod = std::move(entry->second);
        state->by_local_uid.erase(entry);
        state->local_uid_of.erase(uid);
    }
    pod->object = object;
    report_absent(*pod, kube::is_deleting(*object));
}

void RemotePods::report_absent(const RemotePod& pod, bool asked_to_end) {
    // A pod that only stops matching the selector arrives as deleted too; one that was asked to end has
    // ended.
    expect_no_more(pod.id);
    if (asked_to_end) {
        listener_.on_gone(pod);
    } else {
        listener_.on_vanished(pod);
    }
}

}  // namespace k8sgpu::providers::kubernetes
