#include "providers/kubernetes/field_table.h"

#include <algorithm>
#include <array>

#include "providers/kubernetes/rewriters.h"

namespace k8sgpu::providers::kubernetes {
namespace {

constexpr std::string_view kNoStorage =
    "storage of the local cluster cannot be reached from the remote one; use emptyDir, a ConfigMap or "
    "Secret, "
    "or fetch the data over the network";
constexpr std::string_view kNoHost =
    "the host belongs to the remote cluster, whose tenants may not reach into it; leave it out";
constexpr std::string_view kOnlyLocal = "chooses among nodes of the local cluster, which has been done";
constexpr std::string_view kAsIs = "means the same there";
constexpr std::string_view kCopy = "names the copy in the tenant namespace";
constexpr std::string_view kNoToken =
    "tokens of the local cluster are not handed to the remote one; mount a Secret with the credentials that "
    "the pod needs";

constexpr FieldRow kept(std::string_view field, std::string_view why = kAsIs) {
    return {field, Treatment::Kept, why};
}
constexpr FieldRow dropped(std::string_view field, std::string_view why, bool notable = false) {
    return {field, Treatment::Dropped, why, nullptr, notable};
}
constexpr FieldRow refused(std::string_view field, std::string_view why) {
    return {field, Treatment::Refused, why, nullptr, true};
}
constexpr FieldRow rewritten(std::string_view field, std::string_view why, Rewriter rewrite = nullptr) {
    return {field, Treatment::Rewritten, why, rewrite};
}

// Rows without a Rewriter are carried out where the whole pod is in sight (translate.cc).
const auto kRows = [] {
    auto rows = std::to_array<FieldRow>({
        // --- metadata ---
        rewritten("metadata.name", "carries the local UID, so that one pod is never made twice"),
        rewritten("metadata.namespace", "the tenant namespace"),
        rewritten("metadata.labels", "the pod's own, less the k8s.gpu/ domain, plus our mark"),
        rewritten("metadata.annotations", "the pod's own, less the k8s.gpu/ domain, plus our mark"),
        dropped("metadata.ownerReferences", "the owner lives in the local cluster"),
        dropped("metadata.finalizers", "whoever would remove them works on the local pod"),

        // --- where and when to run ---
        dropped("spec.nodeName", "the remote scheduler chooses the machine"),
        dropped("spec.nodeSelector", kOnlyLocal),
        dropped("spec.affinity", kOnlyLocal),
        dropped("spec.topologySpreadConstraints", kOnlyLocal),
        dropped("spec.schedulerName", "schedulers of the local cluster do not run there"),
        dropped("spec.schedulingGates", "a pod on a node has passed its gates"),
        dropped("spec.workloadRef", "names an object of the local cluster"),
        dropped("spec.schedulingGroup", "names an object of the local cluster"),
        dropped("spec.priority", "priorities of two clusters do not compare"),
        dropped("spec.priorityClassName", "classes of the local cluster do not exist there"),
        dropped("spec.preemptionPolicy", "goes with the priority"),
        dropped("spec.overhead", "follows from the remote runtime class"),
        rewritten("spec.tolerations[]", "tolerates taints of local nodes only", filter_toleration),
        rewritten("spec.runtimeClassName", "by the option for remote runtime classes", choose_runtime_class),
        dropped("spec.readinessGates",
                "controllers of the local cluster set those conditions, on the local pod, where they count"),
        kept("spec.os"),

        // --- identity ---
        dropped("spec.serviceAccountName", "service accounts of the local cluster do not exist there"),
        dropped("spec.serviceAccount", "service accounts of the local cluster do not exist there"),
        rewritten("spec.automountServiceAccountToken",
                  "always false: the remote cluster's token is not ours"),
        rewritten("spec.enableServiceLinks",
                  "always false: the remote namespace's Services are not this pod's"),
        rewritten("spec.imagePullSecrets[].name", kCopy, rename_secret),
        rewritten("spec.hostname", "set to what it would be on a local node, unless the pod says it"),
        kept("spec.subdomain"),
        kept("spec.setHostnameAsFQDN"),
        kept("spec.hostnameOverride"),
        kept("spec.hostAliases"),
        kept("spec.dnsPolicy"),
        kept("spec.dnsConfig"),

        // --- host access ---
        refused("spec.hostNetwork", kNoHost),
        refused("spec.hostPID", kNoHost),
        refused("spec.hostIPC", kNoHost),
        kept("spec.hostUsers"),
        kept("spec.shareProcessNamespace"),
        kept("spec.securityContext"),

        // --- life ---
        kept("spec.restartPolicy"),
        kept("spec.terminationGracePeriodSeconds"),
        kept("spec.activeDeadlineSeconds"),
        kept("spec.resources"),
        refused("spec.resourceClaims",
                "devices claimed in the local cluster are not there; ask for GPUs by resources.limits"),
        dropped("spec.ephemeralContainers",
                "no pod is created with them; they are added once the copy is there, each field treated like "
                "spec.containers[]"),

        // --- containers ---
        kept("spec.containers"),
        kept("spec.containers[].name"),
        kept("spec.containers[].image", "pulled by the remote nodes"),
        kept("spec.containers[].imagePullPolicy"),
        kept("spec.containers[].command"),
        kept("spec.containers[].args"),
        kept("spec.containers[].workingDir"),
        kept("spec.containers[].ports"),
        refused("spec.containers[].ports[].hostPort", kNoHost),
        rewritten("spec.containers[].env[]", "as the local cluster means it", rewrite_env),
        rewritten("spec.containers[].env[].valueFrom.configMapKeyRef.name", kCopy, rename_config_map),
        rewritten("spec.containers[].env[].valueFrom.secretKeyRef.name", kCopy, rename_secret),
        rewritten("spec.containers[].envFrom[].configMapRef.name", kCopy, rename_config_map),
        rewritten("spec.containers[].envFrom[].secretRef.name", kCopy, rename_secret),
        kept("spec.containers[].resources"),
        refused("spec.containers[].resources.claims",
                "devices claimed in the local cluster are not there; ask for GPUs by resources.limits"),
        kept("spec.containers[].resizePolicy"),
        kept("spec.containers[].restartPolicy"),
        kept("spec.containers[].restartPolicyRules"),
        rewritten("spec.containers[].volumeMounts[]", "less those of the automatic token volume",
                  drop_token_mount),
        refused("spec.containers[].volumeDevices", kNoStorage),
        kept("spec.containers[].livenessProbe"),
        kept("spec.containers[].readinessProbe"),
        kept("spec.containers[].startupProbe"),
        kept("spec.containers[].lifecycle"),
        kept("spec.containers[].terminationMessagePath"),
        kept("spec.containers[].terminationMessagePolicy"),
        kept("spec.containers[].securityContext"),
        refused("spec.containers[].securityContext.privileged",
                "a tenant may not run privileged containers; name the capabilities that it needs"),
        kept("spec.containers[].stdin"),
        kept("spec.containers[].stdinOnce"),
        kept("spec.containers[].tty"),
        kept("spec.containers[].targetContainerName", "of an ephemeral container"),

        // --- volumes ---
        rewritten("spec.volumes[]", "less the automatic token volume", drop_token_volume),
        kept("spec.volumes[].emptyDir", "on the remote machine"),
        kept("spec.volumes[].image", "pulled by the remote nodes"),
        rewritten("spec.volumes[].configMap.name", kCopy, rename_config_map),
        rewritten("spec.volumes[].secret.secretName", kCopy, rename_secret),
        rewritten("spec.volumes[].downwardAPI.items[]", "as the local cluster means it",
                  rewrite_downward_item),
        rewritten("spec.volumes[].projected.sources[].configMap.name", kCopy, rename_config_map),
        rewritten("spec.volumes[].projected.sources[].secret.name", kCopy, rename_secret),
        rewritten("spec.volumes[].projected.sources[].downwardAPI.items[]", "as the local cluster means it",
                  rewrite_downward_item),
        refused("spec.volumes[].projected.sources[].serviceAccountToken", kNoToken),
        refused("spec.volumes[].projected.sources[].clusterTrustBundle",
                "bundles of the local cluster do not exist there; put the certificates into a ConfigMap"),
        refused("spec.volumes[].projected.sources[].podCertificate", kNoToken),
        refused("spec.volumes[].hostPath", kNoHost),
        refused("spec.volumes[].persistentVolumeClaim", kNoStorage),
        refused("spec.volumes[].ephemeral", kNoStorage),
        refused("spec.volumes[].csi", kNoStorage),
        refused("spec.volumes[].nfs", kNoStorage),
        refused("spec.volumes[].iscsi", kNoStorage),
        refused("spec.volumes[].fc", kNoStorage),
        refused("spec.volumes[].rbd", kNoStorage),
        refused("spec.volumes[].cephfs", kNoStorage),
        refused("spec.volumes[].glusterfs", kNoStorage),
        refused("spec.volumes[].flexVolume", kNoStorage),
        refused("spec.volumes[].flocker", kNoStorage),
        refused("spec.volumes[].cinder", kNoStorage),
        refused("spec.volumes[].gitRepo", kNoStorage),
        refused("spec.volumes[].awsElasticBlockStore", kNoStorage),
        refused("spec.volumes[].gcePersistentDisk", kNoStorage),
        refused("spec.volumes[].azureDisk", kNoStorage),
        refused("spec.volumes[].azureFile", kNoStorage),
        refused("spec.volumes[].vsphereVolume", kNoStorage),
        refused("spec.volumes[].photonPersistentDisk", kNoStorage),
        refused("spec.volumes[].portworxVolume", kNoStorage),
        refused("spec.volumes[].quobyte", kNoStorage),
        refused("spec.volumes[].scaleIO", kNoStorage),
        refused("spec.volumes[].storageos", kNoStorage),
    });
    std::sort(rows.begin(), rows.end(),
              [](const FieldRow& a, const FieldRow& b) { return a.field < b.field; });
    return rows;
}();

}  // namespace

std::span<const FieldRow> field_rows() {
    return kRows;
}

const FieldRow* find_row(std::string_view field) {
    const auto row = std::lower_bound(kRows.begin(), kRows.end(), field,
                                      [](const FieldRow& r, std::string_view f) { return r.field < f; });
    return row != kRows.end() && row->field == field ? &*row : nullptr;
}

}  // namespace k8sgpu::providers::kubernetes
