#include "kube/object.h"

#include <gtest/gtest.h>

namespace k8sgpu::kube {
namespace {

using namespace std::chrono_literals;

const Json kPod = Json::parse(R"({"metadata":{"name":"p","namespace":"a","uid":"u1","resourceVersion":"7",
    "labels":{"app":"x"},"ownerReferences":[{"kind":"Foo"},{"kind":"Job","controller":true}]},
    "status":{"conditions":[{"type":"Ready","status":"True"}]}})");

TEST(Object, Reads_metadata_and_tolerates_its_absence) {
    EXPECT_EQ(pod_id(kPod), (PodId{"a", "p", "u1"}));
    EXPECT_EQ(resource_version_of(kPod), "7");
    EXPECT_EQ(owner_kind(kPod), "Job");
    EXPECT_EQ(label_of(kPod, "app"), "x");
    EXPECT_FALSE(is_deleting(kPod));
    EXPECT_TRUE(condition_is_true(kPod, "Ready"));
    EXPECT_TRUE(find_condition(kPod, "Other").is_null());
    EXPECT_EQ(pod_id(Json::array()), PodId{});
    EXPECT_EQ(owner_kind(Json::parse(R"({"metadata":{"ownerReferences":"odd"}})")), "");
    EXPECT_TRUE(is_deleting(Json::parse(R"({"metadata":{"deletionTimestamp":"2024-01-01T00:00:00Z"}})")));
}

TEST(Object, A_condition_keeps_its_transition_time_while_its_status_stays) {
    const WallTime first{1'700'000'000s};
    Json conditions;
    EXPECT_TRUE(set_condition(conditions, {"Ready", "True", "A", "m"}, first));
    EXPECT_TRUE(set_condition(conditions, {"Ready", "True", "B", "m"}, first + 60s));
    EXPECT_EQ(conditions[0]["lastTransitionTime"], "2023-11-14T22:13:20Z");
    EXPECT_EQ(conditions[0]["reason"], "B");
    EXPECT_FALSE(set_condition(conditions, {"Ready", "True", "B", "m"}, first + 120s));
    EXPECT_TRUE(set_condition(conditions, {"Ready", "False", "B", "m"}, first + 180s));
    EXPECT_EQ(conditions[0]["lastTransitionTime"], "2023-11-14T22:16:20Z");
}

TEST(Object, Foreign_conditions_and_unknown_fields_stay) {
    Json conditions = Json::parse(R"([{"type":"Theirs","status":"True"},
        {"type":"Ready","status":"True","reason":"R","message":"","observedGeneration":3}])");
    const Json before = conditions;
    EXPECT_FALSE(set_condition(conditions, {"Ready", "True", "R", ""}, WallTime{1s}));
    EXPECT_EQ(conditions, before);
    set_condition(conditions, {"Ready", "False", "S", ""}, WallTime{1s});
    EXPECT_EQ(conditions[0], before[0]);
    EXPECT_EQ(conditions[1]["observedGeneration"], 3);
}

}  // namespace
}  // namespace k8sgpu::kube
