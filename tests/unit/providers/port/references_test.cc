#include "providers/port/references.h"

#include <gtest/gtest.h>

namespace k8sgpu::providers {
namespace {

const Json kPod = Json::parse(R"({
  "spec": {
    "initContainers": [{"name": "i", "env": [
        {"name": "A", "valueFrom": {"secretKeyRef": {"name": "s1", "key": "k", "optional": true}}}]}],
    "containers": [{"name": "c",
        "envFrom": [{"configMapRef": {"name": "m1"}}, {"secretRef": {"name": "s1"}}, {"configMapRef": {}}],
        "env": [{"name": "P", "value": "x"},
                {"name": "Q", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                {"name": "R", "valueFrom": {"configMapKeyRef": {"name": "m2", "key": "k2", "optional": true}}}]}],
    "ephemeralContainers": [{"name": "e", "envFrom": [{"secretRef": {"name": "s3"}}]}],
    "volumes": [
        {"name": "v0", "emptyDir": {}},
        {"name": "v1", "configMap": {"name": "m2", "optional": true, "items": [{"key": "a", "path": "b"}]}},
        {"name": "v2", "secret": {"secretName": "s2"}},
        {"name": "v3", "projected": {"sources": [
            {"serviceAccountToken": {"path": "token"}},
            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"secret": {"name": "s4", "optional": true}}]}}],
    "imagePullSecrets": [{"name": "pull"}]
  }
})");

std::string describe(const ObjectReference& r) {
    const char* uses[] = {"Env", "EnvFrom", "Volume", "ImagePullSecret"};
    std::string out = (r.kind == LocalKind::Secret ? "secret " : "configmap ") + r.name + " " +
                      uses[static_cast<int>(r.use)] + (r.optional ? " optional" : "");
    if (!r.container.empty()) out += " container=" + r.container;
    if (!r.volume.empty()) out += " volume=" + r.volume;
    for (const auto& key : r.keys) out += " key=" + key;
    return out + " @" + r.field;
}

TEST(CollectReferences, Finds_every_use_in_the_order_of_the_pod) {
    std::vector<std::string> found;
    for (const auto& reference : collect_references(kPod)) found.push_back(describe(reference));
    const std::vector<std::string> expected = {
        "secret s1 Env optional container=i key=k @spec.initContainers[0].env[0].valueFrom.secretKeyRef",
        "configmap m1 EnvFrom container=c @spec.containers[0].envFrom[0].configMapRef",
        "secret s1 EnvFrom container=c @spec.containers[0].envFrom[1].secretRef",
        "configmap m2 Env optional container=c key=k2 @spec.containers[0].env[2].valueFrom.configMapKeyRef",
        "secret s3 EnvFrom container=e @spec.ephemeralContainers[0].envFrom[0].secretRef",
        "configmap m2 Volume optional volume=v1 key=a @spec.volumes[1].configMap",
        "secret s2 Volume volume=v2 @spec.volumes[2].secret",
        "configmap kube-root-ca.crt Volume volume=v3 key=ca.crt "
        "@spec.volumes[3].projected.sources[1].configMap",
        "secret s4 Volume optional volume=v3 @spec.volumes[3].projected.sources[2].secret",
        "secret pull ImagePullSecret optional @spec.imagePullSecrets[0]",
    };
    EXPECT_EQ(found, expected);
}

TEST(CollectReferences, Of_a_pod_without_any_is_empty) {
    EXPECT_TRUE(collect_references(Json::parse(R"({"spec": {"containers": [{"name": "c"}]}})")).empty());
    EXPECT_TRUE(collect_references(Json()).empty());
}

TEST(DistinctObjects, Are_optional_only_when_every_use_is) {
    const auto objects = distinct_objects(collect_references(kPod));
    EXPECT_EQ(objects.size(), 8U);
    EXPECT_FALSE(objects.at({LocalKind::Secret, "s1"}));
    EXPECT_TRUE(objects.at({LocalKind::ConfigMap, "m2"}));
    EXPECT_TRUE(objects.at({LocalKind::Secret, "pull"}));
}

}  // namespace
}  // namespace k8sgpu::providers
