// Objects as API servers hand them out, here and at the remote side, through everything that reads them: a
// field of an unexpected type must be treated as absent. Input: {"pod", "remote", "object"}.
#include "kube/object.h"
#include "kubelet_api/pod_containers.h"
#include "providers/kubernetes/owner_mark.h"
#include "providers/kubernetes/quota.h"
#include "providers/kubernetes/status_map.h"
#include "providers/kubernetes/translate.h"
#include "providers/kubernetes/update.h"
#include "providers/process/check.h"
#include "providers/process/prepare.h"
#include "tests/fuzz/input.h"
#include "tests/fuzz/json_mutator.h"
#include "vnode/pod_status.h"

namespace {

using namespace k8sgpu;
using namespace k8sgpu::providers;

void as_remote_pod(const Json& remote, const kubernetes::OwnerMark& owner, const Json& local) {
    static_cast<void>(kubernetes::is_our_copy(remote, LocalKind::Secret, owner));
    const auto id = kubernetes::marked_pod(remote, owner);
    const auto observed = kubernetes::observed_from(id.value_or(kube::pod_id(local)), remote);
    static_cast<void>(kubernetes::gone_from(observed.id, remote));
    vnode::StatusFacts facts;
    facts.host_ip = "10.0.0.1";
    const Json status = vnode::compose_status(local, &observed, {}, facts);
    const Json patch = vnode::status_patch(object_at(local, {"status"}), status, "uid");
    static_cast<void>(vnode::patch_within(patch, patch));
}

void as_local_pod(const DesiredPod& desired, const Json& object, const kubernetes::OwnerMark& owner,
                  const Json& remote) {
    kubernetes::TranslateOptions options;
    options.owner = owner;
    const auto translated = kubernetes::translate(desired, options);
    static_cast<void>(kubernetes::refusal_of(translated));
    if (translated.refusals.empty()) {
        static_cast<void>(dump_json(translated.pod));
        static_cast<void>(kubernetes::update_patch(remote, translated.pod));
    }
    process::CheckFacts facts;
    facts.user.uid = 1000;
    facts.resources = {"cpu", "memory", "nvidia.com/gpu"};
    if (process::check_pod(desired.pod, facts)) return;
    NodeFacts node;
    node.name = "k8s.gpu";
    const process::PodPaths paths{"/nowhere"};
    const process::PrepareFacts prepare{node, facts.user, paths, {}, true, {0, 1}};
    const auto prepared = process::prepare(
        desired, prepare, [&](LocalKind, const std::string&) -> Result<Json> { return object; });
    const auto* intent = prepared ? std::get_if<process::PodIntent>(&*prepared) : nullptr;
    if (intent == nullptr || intent->id.uid.empty() || intent->containers.empty()) return;
    // The API server takes no container without a name.
    for (const auto& container : intent->containers) {
        if (container.name.empty()) return;
    }
    fuzz::require(process::intent_from_json(process::to_json(*intent)).has_value(),
                  "an intent can be stored");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const fuzz::Input input(data, size);
    const auto json = parse_json(input.rest(), "input");
    if (!json) return 0;
    const Json& pod = at(*json, {"pod"});
    const Json& remote = at(*json, {"remote"});
    const Json& object = at(*json, {"object"});
    const kubernetes::OwnerMark owner{"11111111-2222-4333-8444-555555555555", "k8s.gpu"};
    as_remote_pod(remote, owner, pod);
    as_local_pod({kube::pod_id(pod), pod}, object, owner, remote);
    static_cast<void>(kubernetes::capacity_from_quotas({object, remote}, {{"cpu", "4"}, {"pods", "10"}}));
    for (const bool previous : {false, true})
        static_cast<void>(kubelet_api::check_log_available(pod, "main", previous));
    return 0;
}
