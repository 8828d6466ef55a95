#include "providers/kubernetes/translate.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "providers/kubernetes/field_table.h"
#include "providers/kubernetes/owner_mark.h"
#include "tests/unit/providers/kubernetes/support.h"

namespace k8sgpu::providers::kubernetes {
namespace {

Json remote_spec(const Json& spec, TranslateOptions options = test_options()) {
    return translate(desired_pod(spec), options).pod["spec"];
}

Json container(const Json& fields) {
    Json c = {{"name", "main"}, {"image", "busybox"}};
    c.update(fields);
    return {{"containers", Json::array({c})}};
}

const Change* change_of(const Translation& translation, const std::string& field) {
    for (const auto* list : {&translation.changes, &translation.refusals}) {
        for (const Change& change : *list) {
            if (change.field == field) return &change;
        }
    }
    return nullptr;
}

std::string config_map(const std::string& name) {
    return copy_name(kOwner, LocalKind::ConfigMap, "default", name);
}
std::string secret(const std::string& name) {
    return copy_name(kOwner, LocalKind::Secret, "default", name);
}

TEST(Translate, The_smallest_pod_becomes_exactly_this) {
    const Json expected = Json::parse(R"({
      "apiVersion": "v1", "kind": "Pod",
      "metadata": {
        "name": "train-0-0a1b2c3d-0000-4000-8000-000000000001", "namespace": "gpu",
        "labels": {"k8s.gpu/cluster": "11111111-2222-4333-8444-555555555555", "k8s.gpu/node": "k8s.gpu",
                   "k8s.gpu/pod-uid": "0a1b2c3d-0000-4000-8000-000000000001", "k8s.gpu/tenant": "acme"},
        "annotations": {"k8s.gpu/pod-namespace": "default", "k8s.gpu/pod-name": "train-0",
                        "k8s.gpu/carried": ";"}},
      "spec": {"automountServiceAccountToken": false, "enableServiceLinks": false, "hostname": "train-0",
               "restartPolicy": "Always", "containers": [{"name": "main", "image": "busybox"}]}})");
    EXPECT_EQ(translate(desired_pod(), test_options()).pod, expected);
}

TEST(Translate, Own_labels_and_annotations_come_along_but_not_those_of_our_domain) {
    DesiredPod desired = desired_pod();
    desired.pod["metadata"]["labels"] = {{"app", "a"}, {"k8s.gpu/cluster", "forged"}, {"k8s.gpu/x", "y"}};
    desired.pod["metadata"]["annotations"] = {{"note", "n"}, {"kubernetes.io/config.mirror", "m"}};
    desired.pod["metadata"]["ownerReferences"] = Json::array({{{"kind", "Job"}}});
    desired.pod["metadata"]["finalizers"] = {"batch.kubernetes.io/job-tracking"};
    const Json metadata = translate(desired, test_options()).pod["metadata"];
    EXPECT_EQ(metadata["labels"]["app"], "a");
    EXPECT_EQ(metadata["labels"]["k8s.gpu/cluster"], kOwner.cluster_uid);
    EXPECT_FALSE(metadata["labels"].contains("k8s.gpu/x"));
    EXPECT_EQ(metadata["annotations"]["note"], "n");
    EXPECT_EQ(metadata["annotations"]["k8s.gpu/carried"], "app;note");
    EXPECT_FALSE(metadata["annotations"].contains("kubernetes.io/config.mirror"));
    EXPECT_FALSE(metadata.contains("ownerReferences"));
    EXPECT_FALSE(metadata.contains("finalizers"));
}

TEST(Translate, What_chooses_local_nodes_stays_behind) {
    const Json spec = remote_spec({{"nodeSelector", {{"a", "b"}}},
                                   {"affinity", {{"nodeAffinity", {{"x", 1}}}}},
                                   {"schedulerName", "default-scheduler"},
                                   {"priority", 1000},
                                   {"priorityClassName", "high"},
                                   {"preemptionPolicy", "Never"},
                                   {"overhead", {{"cpu", "1"}}},
                                   {"schedulingGates", Json::array({{{"name", "g"}}})},
                                   {"topologySpreadConstraints", Json::array({{{"maxSkew", 1}}})},
                                   {"serviceAccountName", "robot"},
                                   {"serviceAccount", "robot"},
                                   {"readinessGates", Json::array({{{"conditionType", "c"}}})},
                                   {"ephemeralContainers", Json::array({{{"name", "debug"}}})}});
    EXPECT_EQ(spec, remote_spec({}));
}

TEST(Translate, What_means_the_same_there_is_kept) {
    const Json kept = {{"restartPolicy", "Never"},
                       {"terminationGracePeriodSeconds", 7},
                       {"activeDeadlineSeconds", 60},
                       {"dnsPolicy", "None"},
                       {"dnsConfig", {{"nameservers", {"1.1.1.1"}}}},
                       {"hostAliases", Json::array({{{"ip", "1.2.3.4"}, {"hostnames", {"x"}}}})},
                       {"hostname", "h"},
                       {"subdomain", "s"},
                       {"securityContext", {{"runAsUser", 1000}}},
                       {"shareProcessNamespace", true},
                       {"hostUsers", false},
                       {"os", {{"name", "linux"}}}};
    const Json spec = remote_spec(kept);
    for (const auto& [key, value] : kept.items()) EXPECT_EQ(spec[key], value) << key;
    const Json full = {{"resources", {{"limits", {{"nvidia.com/gpu", "1"}}}}},
                       {"livenessProbe", {{"exec", {{"command", {"true"}}}}}},
                       {"lifecycle", {{"preStop", {{"sleep", {{"seconds", 1}}}}}}},
                       {"securityContext", {{"capabilities", {{"drop", {"ALL"}}}}}},
                       {"stdin", true},
                       {"ports", Json::array({{{"containerPort", 80}}})}};
    const Json main = remote_spec(container(full))["containers"][0];
    for (const auto& [key, value] : full.items()) EXPECT_EQ(main[key], value) << key;
}

TEST(Translate, Fields_that_nobody_knows_yet_pass_through) {
    Json fields = container({{"futureContainerField", {{"a", 1}}}});
    fields["futurePodField"] = {1, 2, 3};
    const Json spec = remote_spec(fields);
    EXPECT_EQ(spec["futurePodField"], Json({1, 2, 3}));
    EXPECT_EQ(spec["containers"][0]["futureContainerField"]["a"], 1);
}

TEST(Translate, References_name_the_copies_everywhere) {
    Json fields = container(
        {{"env",
          Json::array({{{"name", "A"}, {"valueFrom", {{"configMapKeyRef", {{"name", "cm"}, {"key", "k"}}}}}},
                       {{"name", "B"}, {"valueFrom", {{"secretKeyRef", {{"name", "s"}, {"key", "k"}}}}}}})},
         {"envFrom", Json::array({{{"configMapRef", {{"name", "cm"}}}}, {{"secretRef", {{"name", "s"}}}}})}});
    fields["imagePullSecrets"] = Json::array({{{"name", "pull"}}});
    fields["initContainers"] =
        Json::array({{{"name", "i"}, {"envFrom", Json::array({{{"configMapRef", {{"name", "init"}}}}})}}});
    fields["volumes"] = Json::array(
        {{{"name", "a"}, {"configMap", {{"name", "cm"}}}},
         {{"name", "b"}, {"secret", {{"secretName", "s"}}}},
         {{"name", "c"},
          {"projected",
           {{"sources", Json::array({{{"configMap", {{"name", "cm"}}}}, {{"secret", {{"name", "s"}}}}})}}}}});
    const Json spec = remote_spec(fields);
    const Json& main = spec["containers"][0];
    EXPECT_EQ(main["env"][0]["valueFrom"]["configMapKeyRef"]["name"], config_map("cm"));
    EXPECT_EQ(main["env"][1]["valueFrom"]["secretKeyRef"]["name"], secret("s"));
    EXPECT_EQ(main["envFrom"][0]["configMapRef"]["name"], config_map("cm"));
    EXPECT_EQ(main["envFrom"][1]["secretRef"]["name"], secret("s"));
    EXPECT_EQ(spec["initContainers"][0]["envFrom"][0]["configMapRef"]["name"], config_map("init"));
    EXPECT_EQ(spec["imagePullSecrets"][0]["name"], secret("pull"));
    EXPECT_EQ(spec["volumes"][0]["configMap"]["name"], config_map("cm"));
    EXPECT_EQ(spec["volumes"][1]["secret"]["secretName"], secret("s"));
    EXPECT_EQ(spec["volumes"][2]["projected"]["sources"][0]["configMap"]["name"], config_map("cm"));
    EXPECT_EQ(spec["volumes"][2]["projected"]["sources"][1]["secret"]["name"], secret("s"));
}

TEST(Translate, Environment_from_fields_tells_what_the_local_cluster_would) {
    const std::vector<std::pair<std::string, std::string>> cases = {
        {"metadata.name", "train-0"},         {"metadata.namespace", "default"},
        {"metadata.uid", kPod.uid},           {"spec.nodeName", "k8s.gpu"},
        {"spec.serviceAccountName", "robot"}, {"status.hostIP", "10.0.0.9"},
        {"status.hostIPs", "10.0.0.9"},       {"metadata.labels['k8s.gpu/own']", "$$(X)"},
    };
    for (const auto& [path, value] : cases) {
        Json fields = container(
            {{"env", Json::array({{{"name", "V"}, {"valueFrom", {{"fieldRef", {{"fieldPath", path}}}}}}})}});
        fields["serviceAccountName"] = "robot";
        DesiredPod desired = desired_pod(fields);
        desired.pod["metadata"]["labels"]["k8s.gpu/own"] = "$(X)";
        const Json env = translate(desired, test_options()).pod["spec"]["containers"][0]["env"][0];
        EXPECT_EQ(env, Json({{"name", "V"}, {"value", value}})) << path;
    }
}

TEST(Translate, Environment_from_fields_that_are_true_there_stays_live) {
    for (const char* path :
         {"status.podIP", "status.podIPs", "metadata.labels['app']", "metadata.annotations['a']"}) {
        const Json variable = {{"name", "V"}, {"valueFrom", {{"fieldRef", {{"fieldPath", path}}}}}};
        EXPECT_EQ(remote_spec(container({{"env", {variable}}}))["containers"][0]["env"][0], variable) << path;
    }
}

TEST(Translate, The_pods_own_host_address_wins_over_the_configured_one) {
    DesiredPod desired = desired_pod(container(
        {{"env",
          Json::array({{{"name", "V"}, {"valueFrom", {{"fieldRef", {{"fieldPath", "status.hostIP"}}}}}}})}}));
    desired.pod["status"]["hostIP"] = "10.9.9.9";
    EXPECT_EQ(translate(desired, test_options()).pod["spec"]["containers"][0]["env"][0]["value"], "10.9.9.9");
}

TEST(Translate, Downward_volumes_read_the_identity_from_our_mark) {
    const auto item = [](const char* path) {
        return Json{{"path", "f"}, {"fieldRef", {{"fieldPath", path}}}};
    };
    const Json spec =
        remote_spec({{"volumes", Json::array({{{"name", "d"},
                                               {"downwardAPI",
                                                {{"items",
                                                  {item("metadata.name"), item("metadata.namespace"),
                                                   item("metadata.uid"), item("metadata.labels")}}}}}})}});
    const Json& items = spec["volumes"][0]["downwardAPI"]["items"];
    EXPECT_EQ(items[0]["fieldRef"]["fieldPath"], "metadata.annotations['k8s.gpu/pod-name']");
    EXPECT_EQ(items[1]["fieldRef"]["fieldPath"], "metadata.annotations['k8s.gpu/pod-namespace']");
    EXPECT_EQ(items[2]["fieldRef"]["fieldPath"], "metadata.labels['k8s.gpu/pod-uid']");
    EXPECT_EQ(items[3]["fieldRef"]["fieldPath"], "metadata.labels");
}

Json with_token_volume(const std::string& name) {
    Json fields = container({{"volumeMounts", Json::array({{{"name", "data"}, {"mountPath", "/d"}},
                                                           {{"name", name}, {"mountPath", "/t"}}})}});
    fields["volumes"] =
        Json::array({{{"name", name},
                      {"projected",
                       {{"sources", Json::array({{{"serviceAccountToken", {{"path", "token"}}}},
                                                 {{"configMap", {{"name", "kube-root-ca.crt"}}}}})}}}},
                     {{"name", "data"}, {"emptyDir", Json::object()}}});
    return fields;
}

TEST(Translate, The_automatic_token_volume_is_left_out_with_its_mounts_and_says_so) {
    const Translation translation =
        translate(desired_pod(with_token_volume("kube-api-access-x")), test_options());
    EXPECT_TRUE(translation.refusals.empty());
    const Json& spec = translation.pod["spec"];
    ASSERT_EQ(spec["volumes"].size(), 1U);
    EXPECT_EQ(spec["volumes"][0]["name"], "data");
    EXPECT_EQ(spec["containers"][0]["volumeMounts"], Json::array({{{"name", "data"}, {"mountPath", "/d"}}}));
    const Change* change = change_of(translation, "spec.volumes[0]");
    ASSERT_NE(change, nullptr);
    EXPECT_TRUE(change->notable);
}

TEST(Translate, A_token_volume_that_somebody_asked_for_is_refused) {
    const Translation translation = translate(desired_pod(with_token_volume("mine")), test_options());
    EXPECT_NE(change_of(translation, "spec.volumes[0].projected.sources[0].serviceAccountToken"), nullptr);
}

TEST(Translate, Refusals_name_the_field) {
    const std::vector<std::pair<Json, std::string>> cases = {
        {{{"hostNetwork", true}}, "spec.hostNetwork"},
        {{{"hostPID", true}}, "spec.hostPID"},
        {{{"hostIPC", true}}, "spec.hostIPC"},
        {{{"resourceClaims", Json::array({{{"name", "gpu"}}})}}, "spec.resourceClaims"},
        {container({{"ports", Json::array({{{"containerPort", 1}, {"hostPort", 80}}})}}),
         "spec.containers[0].ports[0].hostPort"},
        {container({{"securityContext", {{"privileged", true}}}}),
         "spec.containers[0].securityContext.privileged"},
        {{{"initContainers", Json::array({{{"name", "i"}, {"securityContext", {{"privileged", true}}}}})}},
         "spec.initContainers[0].securityContext.privileged"},
        {{{"volumes", Json::array({{{"name", "v"}, {"hostPath", {{"path", "/"}}}}})}},
         "spec.volumes[0].hostPath"},
        {{{"volumes", Json::array({{{"name", "v"}, {"persistentVolumeClaim", {{"claimName", "c"}}}}})}},
         "spec.volumes[0].persistentVolumeClaim"},
        {{{"volumes", Json::array({{{"name", "v"}, {"csi", {{"driver", "d"}}}}})}}, "spec.volumes[0].csi"},
        {{{"volumes", Json::array({{{"name", "v"}, {"nfs", {{"server", "s"}}}}})}}, "spec.volumes[0].nfs"},
        {{{"volumes", Json::array({{{"name", "v"}, {"ephemeral", {{"volumeClaimTemplate", {{"a", 1}}}}}}})}},
         "spec.volumes[0].ephemeral"},
    };
    for (const auto& [spec, field] : cases) {
        const Translation translation = translate(desired_pod(spec), test_options());
        const Change* change = change_of(translation, field);
        ASSERT_NE(change, nullptr) << field;
        EXPECT_EQ(change->treatment, Treatment::Refused);
        const auto refused = refusal_of(translation);
        ASSERT_TRUE(refused.has_value());
        EXPECT_EQ(refused->reason, "PodFeatureUnsupported");
        EXPECT_NE(refused->message.find(field + ": "), std::string::npos);
    }
}

TEST(Translate, A_field_that_says_no_is_no_reason_to_refuse) {
    Json fields = container({{"securityContext", {{"privileged", false}}},
                             {"ports", Json::array({{{"containerPort", 1}, {"hostPort", 0}}})}});
    fields["hostNetwork"] = false;
    EXPECT_TRUE(translate(desired_pod(fields), test_options()).refusals.empty());
}

TEST(Translate, Tolerations_of_remote_taints_are_kept_others_not) {
    Json fields = container({{"resources", {{"limits", {{"nvidia.com/gpu", "1"}}}}}});
    const Json gpu = {{"key", "nvidia.com/gpu"}, {"operator", "Exists"}};
    const Json unreachable = {{"key", "node.kubernetes.io/unreachable"}, {"tolerationSeconds", 300}};
    fields["tolerations"] = {gpu, {{"key", "k8s.gpu/remote"}}, {{"operator", "Exists"}}, unreachable};
    EXPECT_EQ(remote_spec(fields)["tolerations"], Json({gpu, unreachable}));
    EXPECT_FALSE(remote_spec({{"tolerations", {gpu}}}).contains("tolerations")) << "no gpu is asked for";
}

TEST(Translate, The_runtime_class_follows_the_policy) {
    TranslateOptions options = test_options();
    const Json with_class = {{"runtimeClassName", "local"}};
    EXPECT_FALSE(remote_spec(with_class, options).contains("runtimeClassName"));
    options.runtime_class = "same";
    EXPECT_EQ(remote_spec(with_class, options)["runtimeClassName"], "local");
    EXPECT_FALSE(remote_spec({}, options).contains("runtimeClassName"));
    options.runtime_class = "nvidia";
    EXPECT_EQ(remote_spec(with_class, options)["runtimeClassName"], "nvidia");
    EXPECT_EQ(remote_spec({}, options)["runtimeClassName"], "nvidia");
}

TEST(Translate, Nothing_is_dropped_or_rewritten_without_a_line) {
    Json fields = with_token_volume("kube-api-access-x");
    fields["nodeSelector"] = {{"a", "b"}};
    fields["tolerations"] = Json::array({{{"key", "x"}}});
    fields["runtimeClassName"] = "local";
    const DesiredPod desired = desired_pod(fields);
    const Translation translation = translate(desired, test_options());
    // Every member of the spec that is not the same on both sides is named by some change.
    for (const auto& [key, value] : desired.pod["spec"].items()) {
        if (translation.pod["spec"].contains(key) && translation.pod["spec"][key] == value) continue;
        const bool told = std::any_of(translation.changes.begin(), translation.changes.end(),
                                      [&](const Change& c) { return c.field.starts_with("spec." + key); });
        EXPECT_TRUE(told) << key;
    }
}

TEST(FieldTable, Rows_are_sorted_unique_and_say_why) {
    const auto rows = field_rows();
    for (std::size_t i = 0; i < rows.size(); ++i) {
        EXPECT_FALSE(rows[i].why.empty()) << rows[i].field;
        if (i > 0) {
            EXPECT_LT(rows[i - 1].field, rows[i].field);
        }
        EXPECT_EQ(find_row(rows[i].field), &rows[i]);
    }
    EXPECT_EQ(find_row("spec.nothing"), nullptr);
}

// The fields of the newest API that was read; a new minor adds to this list and then to the table.
TEST(FieldTable, Every_known_field_of_pod_spec_and_volume_has_a_row) {
    for (const char* field : {"initContainers",
                              "containers",
                              "ephemeralContainers",
                              "restartPolicy",
                              "terminationGracePeriodSeconds",
                              "activeDeadlineSeconds",
                              "dnsPolicy",
                              "nodeSelector",
                              "serviceAccountName",
                              "serviceAccount",
                              "automountServiceAccountToken",
                              "nodeName",
                              "hostNetwork",
                              "hostPID",
                              "hostIPC",
                              "shareProcessNamespace",
                              "securityContext",
                              "hostname",
                              "subdomain",
                              "affinity",
                              "schedulerName",
                              "hostAliases",
                              "priorityClassName",
                              "priority",
                              "dnsConfig",
                              "readinessGates",
                              "runtimeClassName",
                              "enableServiceLinks",
                              "preemptionPolicy",
                              "overhead",
                              "topologySpreadConstraints",
                              "setHostnameAsFQDN",
                              "os",
                              "hostUsers",
                              "schedulingGates",
                              "resourceClaims",
                              "resources",
                              "hostnameOverride",
                              "workloadRef",
                              "schedulingGroup"}) {
        const std::string name = std::string(field) == "initContainers" ? "containers" : field;
        EXPECT_NE(find_row("spec." + name), nullptr) << field;
    }
    for (const char* volume : {"hostPath",
                               "emptyDir",
                               "gcePersistentDisk",
                               "awsElasticBlockStore",
                               "gitRepo",
                               "nfs",
                               "iscsi",
                               "glusterfs",
                               "persistentVolumeClaim",
                               "rbd",
                               "flexVolume",
                               "cinder",
                               "cephfs",
                               "flocker",
                               "fc",
                               "azureFile",
                               "vsphereVolume",
                               "quobyte",
                               "azureDisk",
                               "photonPersistentDisk",
                               "portworxVolume",
                               "scaleIO",
                               "storageos",
                               "csi",
                               "ephemeral",
                               "image",
                               "configMap.name",
                               "secret.secretName",
                               "downwardAPI.items[]",
                               "projected.sources[].serviceAccountToken",
                               "projected.sources[].clusterTrustBundle",
                               "projected.sources[].podCertificate"}) {
        EXPECT_NE(find_row(std::string("spec.volumes[].") + volume), nullptr) << volume;
    }
    for (const char* field : {"name",
                              "image",
                              "command",
                              "args",
                              "workingDir",
                              "ports",
                              "resources",
                              "resizePolicy",
                              "restartPolicy",
                              "restartPolicyRules",
                              "volumeDevices",
                              "livenessProbe",
                              "readinessProbe",
                              "startupProbe",
                              "lifecycle",
                              "terminationMessagePath",
                              "terminationMessagePolicy",
                              "imagePullPolicy",
                              "securityContext",
                              "stdin",
                              "stdinOnce",
                              "tty",
                              "env[]",
                              "volumeMounts[]",
                              "envFrom[].configMapRef.name"}) {
        EXPECT_NE(find_row(std::string("spec.containers[].") + field), nullptr) << field;
    }
}

}  // namespace
}  // namespace k8sgpu::providers::kubernetes
