#include "providers/kubernetes/names.h"

#include <gtest/gtest.h>

#include <regex>

#include "providers/kubernetes/owner_mark.h"
#include "tests/unit/providers/kubernetes/support.h"

namespace k8sgpu::providers::kubernetes {
namespace {

bool is_dns_subdomain(const std::string& name) {
    static const std::regex kPattern("[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*");
    return name.size() <= 253 && std::regex_match(name, kPattern);
}

TEST(Names, A_remote_pod_is_called_by_name_and_uid) {
    EXPECT_EQ(remote_pod_name(kPod), "train-0-0a1b2c3d-0000-4000-8000-000000000001");
}

TEST(Names, Long_names_are_cut_to_what_a_log_directory_can_hold_and_stay_valid) {
    for (std::size_t length = 100; length <= 253; ++length) {
        PodId pod = kPod;
        pod.name = std::string(length, 'a');
        for (std::size_t i = 9; i + 1 < length; i += 10) pod.name[i] = i % 20 == 9 ? '-' : '.';
        const std::string name = remote_pod_name(pod);
        EXPECT_TRUE(is_dns_subdomain(name)) << name;
        EXPECT_LE(name.size(), kMaxRemoteName);
        EXPECT_TRUE(name.ends_with("-" + pod.uid));
    }
}

TEST(Names, Same_name_with_another_uid_is_another_remote_pod) {
    PodId next = kPod;
    next.uid = "0a1b2c3d-0000-4000-8000-000000000002";
    EXPECT_NE(remote_pod_name(kPod), remote_pod_name(next));
    next = kPod;
    next.name = std::string(200, 'x');
    PodId other = next;
    other.uid = "0a1b2c3d-0000-4000-8000-000000000002";
    EXPECT_NE(remote_pod_name(next), remote_pod_name(other));
}

TEST(Names, A_uid_that_is_no_dns_label_is_hashed) {
    PodId pod = kPod;
    pod.uid = "Not/A Uuid";
    EXPECT_TRUE(is_dns_subdomain(remote_pod_name(pod)));
}

TEST(Names, Copies_differ_by_owner_kind_namespace_and_name) {
    const std::string base = copy_name(kOwner, LocalKind::ConfigMap, "default", "app");
    EXPECT_TRUE(base.starts_with("app-"));
    EXPECT_TRUE(is_dns_subdomain(base));
    EXPECT_EQ(base, copy_name(kOwner, LocalKind::ConfigMap, "default", "app"));
    EXPECT_NE(base, copy_name(kOwner, LocalKind::Secret, "default", "app"));
    EXPECT_NE(base, copy_name(kOwner, LocalKind::ConfigMap, "other", "app"));
    EXPECT_NE(base, copy_name({kOwner.cluster_uid, "other"}, LocalKind::ConfigMap, "default", "app"));
    EXPECT_NE(base, copy_name({"other", kOwner.node_name}, LocalKind::ConfigMap, "default", "app"));
    EXPECT_TRUE(is_dns_subdomain(copy_name(kOwner, LocalKind::Secret, "default", std::string(253, 'b'))));
}

TEST(Names, Label_values_keep_what_fits_and_hash_the_rest) {
    EXPECT_EQ(label_value("k8s.gpu"), "k8s.gpu");
    const std::string long_node(200, 'n');
    EXPECT_EQ(label_value(long_node).size(), 63U);
    EXPECT_NE(label_value(long_node), label_value(long_node + "n"));
    EXPECT_EQ(label_value("").size(), 16U);
    EXPECT_FALSE(label_value("a b/ü").empty());
}

TEST(Names, The_host_name_is_that_of_a_local_node_where_it_can_be_asked_for) {
    EXPECT_EQ(remote_hostname(desired_pod().pod), "train-0");
    EXPECT_EQ(remote_hostname(desired_pod({{"hostname", "h"}}).pod), "h");
    PodId dotted = kPod;
    dotted.name = "a.b";
    EXPECT_EQ(remote_hostname(desired_pod({}, dotted).pod), std::nullopt);
}

Json marked() {
    Json pod = {{"metadata", {{"name", remote_pod_name(kPod)}}}};
    mark_pod(pod["metadata"], kOwner, kPod);
    return pod;
}

TEST(OwnerMark, The_whole_mark_leads_back_to_the_local_pod) {
    EXPECT_EQ(marked_pod(marked(), kOwner), kPod);
}

TEST(OwnerMark, Every_part_of_the_mark_is_needed) {
    for (const char* label : {kClusterLabel, kNodeLabel, kPodUidLabel}) {
        Json pod = marked();
        pod["metadata"]["labels"].erase(label);
        EXPECT_EQ(marked_pod(pod, kOwner), std::nullopt) << label;
    }
    for (const char* annotation : {kPodNamespaceAnnotation, kPodNameAnnotation}) {
        Json pod = marked();
        pod["metadata"]["annotations"].erase(annotation);
        EXPECT_EQ(marked_pod(pod, kOwner), std::nullopt) << annotation;
    }
    Json copied = marked();
    copied["metadata"]["name"] = "debug-copy";
    EXPECT_EQ(marked_pod(copied, kOwner), std::nullopt);
}

TEST(OwnerMark, Another_cluster_or_node_is_a_stranger) {
    EXPECT_EQ(marked_pod(marked(), {"another-cluster", kOwner.node_name}), std::nullopt);
    EXPECT_EQ(marked_pod(marked(), {kOwner.cluster_uid, "another-node"}), std::nullopt);
}

}  // namespace
}  // namespace k8sgpu::providers::kubernetes
