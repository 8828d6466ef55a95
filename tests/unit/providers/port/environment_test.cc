#include "providers/port/environment.h"

#include <gtest/gtest.h>

#include "common/encoding.h"

namespace k8sgpu::providers {
namespace {

const NodeFacts kNode{"k8s.gpu", {"10.0.0.7", "fd00::7"}, {{"cpu", "7500m"}, {"memory", "16Gi"}}};

class EnvironmentTest : public testing::Test {
  protected:
    void SetUp() override {
        add(LocalKind::ConfigMap, "m", {{"A", "map"}, {"B", "b"}});
        add(LocalKind::Secret, "s", {{"A", base64_encode("secret")}, {"bin", base64_encode("x\ny")}});
        pod_ = Json::parse(R"({"metadata": {"name": "p", "namespace": "ns", "uid": "u",
            "labels": {"app": "web", "a/b": "c"}, "annotations": {"note": "hi"}},
            "spec": {"serviceAccountName": "robot", "nodeName": "k8s.gpu", "initContainers": [
              {"name": "other", "resources": {"limits": {"cpu": "2"}}}]}})");
    }
    void add(LocalKind kind, const std::string& name, const Json& data) {
        objects_[{kind, name}] = {{"data", data}};
    }

    Result<EnvironmentOutcome> run(Json container) {
        container["name"] = "c";
        EnvironmentInputs inputs{pod_,
                                 kNode,
                                 {"10.1.2.3", "fd00::3"},
                                 service_variables_,
                                 [this](LocalKind kind, const std::string& name) -> Result<Json> {
                                     ++fetches_;
                                     if (lookup_error_) return fail(*lookup_error_);
                                     const auto found = objects_.find({kind, name});
                                     if (found == objects_.end()) return fail(ErrorKind::NotFound, "gone");
                                     return found->second;
                                 }};
        return resolve_environment(inputs, container, "spec.containers[0]");
    }
    Environment resolve(const char* container) {
        auto outcome = run(Json::parse(container));
        if (!outcome || !std::holds_alternative<Environment>(*outcome)) {
            ADD_FAILURE() << "not resolved";
            return {};
        }
        return std::get<Environment>(*outcome);
    }
    // One env entry with this source.
    std::string value(const char* source) {
        const Json container = {{"env", {{{"name", "X"}, {"valueFrom", Json::parse(source)}}}}};
        const Environment env = resolve(container.dump().c_str());
        return env.count("X") == 0 ? "(unset)" : env.at("X");
    }
    Blocked blocked(const char* container) {
        auto outcome = run(Json::parse(container));
        if (!outcome || !std::holds_alternative<Blocked>(*outcome)) {
            ADD_FAILURE() << "not blocked";
            return {};
        }
        return std::get<Blocked>(*outcome);
    }
    std::string refused(const char* container) {
        auto outcome = run(Json::parse(container));
        if (!outcome || !std::holds_alternative<Refused>(*outcome)) return "(not refused)";
        return std::get<Refused>(*outcome).message;
    }

    Json pod_;
    std::map<std::pair<LocalKind, std::string>, Json> objects_;
    Environment service_variables_;
    std::optional<Error> lookup_error_;
    int fetches_ = 0;
};

TEST_F(EnvironmentTest, Later_envFrom_wins_and_env_wins_over_all) {
    const Environment expected = {{"A", "own"}, {"B", "b"}, {"bin", "x\ny"}, {"P_A", "map"}, {"P_B", "b"}};
    EXPECT_EQ(resolve(R"({"envFrom": [{"configMapRef": {"name": "m"}}, {"secretRef": {"name": "s"}},
                                      {"prefix": "P_", "configMapRef": {"name": "m"}}],
                          "env": [{"name": "A", "value": "own"}]})"),
              expected);
    EXPECT_EQ(
        resolve(R"({"envFrom": [{"configMapRef": {"name": "m"}}, {"secretRef": {"name": "s"}}]})").at("A"),
        "secret");
}

TEST_F(EnvironmentTest, Each_object_is_read_once) {
    resolve(R"({"envFrom": [{"configMapRef": {"name": "m"}}], "env": [
        {"name": "X", "valueFrom": {"configMapKeyRef": {"name": "m", "key": "B"}}}]})");
    EXPECT_EQ(fetches_, 1);
}

TEST_F(EnvironmentTest, Values_see_earlier_names_services_and_nothing_later) {
    service_variables_ = {{"SVC", "1.2.3.4"}, {"B", "service"}};
    const Environment env = resolve(R"json({"envFrom": [{"configMapRef": {"name": "m"}}], "env": [
        {"name": "X", "value": "$(A)-$(B)-$(SVC)-$(LATER)-$$(A)"}, {"name": "LATER", "value": "l"},
        {"name": "Y", "value": "$(LATER)"}, {"name": "A", "value": "$(A)2"}]})json");
    EXPECT_EQ(env.at("X"), "map-b-1.2.3.4-$(LATER)-$(A)");
    EXPECT_EQ(env.at("Y"), "l");
    EXPECT_EQ(env.at("A"), "map2");
    EXPECT_EQ(env.at("B"), "b");
    EXPECT_EQ(env.at("SVC"), "1.2.3.4");
}

TEST_F(EnvironmentTest, Values_from_objects_are_not_expanded) {
    add(LocalKind::ConfigMap, "raw", {{"k", "$(A) $$"}});
    EXPECT_EQ(value(R"({"configMapKeyRef": {"name": "raw", "key": "k"}})"), "$(A) $$");
    EXPECT_EQ(value(R"({"secretKeyRef": {"name": "s", "key": "bin"}})"), "x\ny");
}

TEST_F(EnvironmentTest, Optional_sources_that_are_missing_leave_no_trace) {
    EXPECT_EQ(resolve(R"({"envFrom": [{"configMapRef": {"name": "no", "optional": true}},
                                      {"secretRef": {"name": "no", "optional": true}}]})"),
              Environment{});
    EXPECT_EQ(value(R"({"configMapKeyRef": {"name": "no", "key": "k", "optional": true}})"), "(unset)");
    EXPECT_EQ(value(R"({"secretKeyRef": {"name": "s", "key": "no", "optional": true}})"), "(unset)");
}

TEST_F(EnvironmentTest, An_empty_value_is_set_and_empty) {
    EXPECT_EQ(resolve(R"({"env": [{"name": "X"}, {"name": "Y", "value": ""}]})"),
              (Environment{{"X", ""}, {"Y", ""}}));
}

TEST_F(EnvironmentTest, Missing_objects_and_keys_block_in_the_kubelets_words) {
    struct Case {
        const char* container;
        const char* message;
    };
    for (const Case& c : {
             Case{R"({"envFrom": [{"configMapRef": {"name": "x"}}]})", R"(configmap "x" not found)"},
             Case{R"({"envFrom": [{"secretRef": {"name": "x"}}]})", R"(secret "x" not found)"},
             Case{R"({"env": [{"name": "E", "valueFrom": {"secretKeyRef": {"name": "x", "key": "k"}}}]})",
                  R"(secret "x" not found)"},
             Case{R"({"env": [{"name": "E", "valueFrom": {"configMapKeyRef": {"name": "m", "key": "k"}}}]})",
                  "couldn't find key k in ConfigMap ns/m"},
             Case{R"({"env": [{"name": "E", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]})",
                  "couldn't find key k in Secret ns/s"},
         }) {
        const Blocked b = blocked(c.container);
        EXPECT_EQ(b.waiting_reason, "CreateContainerConfigError");
        EXPECT_EQ(b.waiting_message, c.message);
        EXPECT_EQ(b.containers, std::vector<std::string>{"c"});
        EXPECT_EQ(b.event_reason, "Failed");
        EXPECT_EQ(b.event_message, std::string("Error: ") + c.message);
    }
}

TEST_F(EnvironmentTest, Forbidden_blocks_with_its_own_text_and_an_outage_is_an_error) {
    lookup_error_ = Error{ErrorKind::Forbidden, "may not get secrets in ns", {}, {}};
    EXPECT_EQ(blocked(R"({"envFrom": [{"secretRef": {"name": "s", "optional": true}}]})").waiting_message,
              "may not get secrets in ns");
    lookup_error_ = Error{ErrorKind::Unavailable, "connection refused", {}, {}};
    const auto outcome = run(Json::parse(R"({"envFrom": [{"secretRef": {"name": "s", "optional": true}}]})"));
    ASSERT_FALSE(outcome);
    EXPECT_EQ(outcome.error().kind, ErrorKind::Unavailable);
    EXPECT_EQ(outcome.error().message, "reading secret s: connection refused");
}

TEST_F(EnvironmentTest, Field_references) {
    const std::pair<const char*, const char*> cases[] = {
        {"metadata.name", "p"},
        {"metadata.namespace", "ns"},
        {"metadata.uid", "u"},
        {"metadata.labels['app']", "web"},
        {"metadata.labels['a/b']", "c"},
        {"metadata.labels['none']", ""},
        {"metadata.annotations['note']", "hi"},
        {"spec.nodeName", "k8s.gpu"},
        {"spec.serviceAccountName", "robot"},
        {"status.hostIP", "10.0.0.7"},
        {"status.hostIPs", "10.0.0.7,fd00::7"},
        {"status.podIP", "10.1.2.3"},
        {"status.podIPs", "10.1.2.3,fd00::3"},
    };
    for (const auto& [path, expected] : cases) {
        EXPECT_EQ(value(Json({{"fieldRef", {{"fieldPath", path}}}}).dump().c_str()), expected) << path;
    }
}

TEST_F(EnvironmentTest, Resource_references_round_up_and_default_to_the_node) {
    const auto of = [this](const char* selector) {
        const Json container = {
            {"resources", Json::parse(R"({"limits": {"memory": "64Mi", "hugepages-2Mi": "4Mi"},
                                          "requests": {"cpu": "250m", "memory": "32Mi"}})")},
            {"env", {{{"name", "X"}, {"valueFrom", {{"resourceFieldRef", Json::parse(selector)}}}}}}};
        return resolve(container.dump().c_str())["X"];
    };
    EXPECT_EQ(of(R"({"resource": "requests.cpu"})"), "1");
    EXPECT_EQ(of(R"({"resource": "requests.cpu", "divisor": "1m"})"), "250");
    EXPECT_EQ(of(R"({"resource": "requests.cpu", "divisor": "0"})"), "1");
    EXPECT_EQ(of(R"({"resource": "limits.cpu"})"), "8");
    EXPECT_EQ(of(R"({"resource": "limits.cpu", "divisor": "1m"})"), "7500");
    EXPECT_EQ(of(R"({"resource": "limits.cpu", "containerName": "other"})"), "2");
    EXPECT_EQ(of(R"({"resource": "limits.memory"})"), "67108864");
    EXPECT_EQ(of(R"({"resource": "limits.memory", "divisor": "1Mi"})"), "64");
    EXPECT_EQ(of(R"({"resource": "requests.memory", "divisor": "1Gi"})"), "1");
    EXPECT_EQ(of(R"({"resource": "requests.ephemeral-storage"})"), "0");
    EXPECT_EQ(of(R"({"resource": "limits.hugepages-2Mi", "divisor": "1Mi"})"), "4");
}

TEST_F(EnvironmentTest, Unknown_sources_are_refused_with_the_field) {
    EXPECT_EQ(refused(R"({"env": [{"name": "A", "value": "x"},
                                  {"name": "X", "valueFrom": {"fieldRef": {"fieldPath": "status.phase"}}}]})"),
              "spec.containers[0].env[1].valueFrom.fieldRef.fieldPath: \"status.phase\" cannot be told to a "
              "container");
    EXPECT_EQ(
        refused(R"({"env": [{"name": "X", "valueFrom": {"resourceFieldRef": {"resource": "limits.gpu"}}}]})"),
        "spec.containers[0].env[0].valueFrom.resourceFieldRef: \"limits.gpu\" is no resource of a container "
        "that has a value");
    EXPECT_EQ(refused(R"({"env": [{"name": "X", "valueFrom": {"fileKeyRef": {}}}]})"),
              "spec.containers[0].env[0].valueFrom names no source that this version knows (configMapKeyRef, "
              "secretKeyRef, fieldRef, resourceFieldRef)");
    EXPECT_EQ(
        refused(R"({"envFrom": [{"moonRef": {}}]})"),
        "spec.containers[0].envFrom[0] names no source that this version knows (configMapRef, secretRef)");
}

TEST(ExpandVariables, Follows_the_kubelets_grammar) {
    const Environment known = {{"A", "1"}, {"B", ""}, {"A-B", "dash"}};
    const std::pair<const char*, const char*> cases[] = {
        {"", ""},         {"plain", "plain"}, {"$(A)", "1"},      {"x$(A)y$(B)z", "x1yz"},
        {"$(C)", "$(C)"}, {"$$(A)", "$(A)"},  {"$$$(A)", "$1"},   {"$$$$", "$$"},
        {"$A", "$A"},     {"${A}", "${A}"},   {"$(A", "$(A"},     {"$", "$"},
        {"a$", "a$"},     {"$()", "$()"},     {"$(A-B)", "dash"}, {"$($(A))", "$($(A))"},
        {"$(A)$", "1$"},  {"$(A)$$", "1$"},   {"$ (A)", "$ (A)"},
    };
    for (const auto& [text, expected] : cases) EXPECT_EQ(expand_variables(text, known), expected) << text;
}

TEST(ExpandAll, Keeps_the_elements_apart) {
    const Environment known = {{"A", "x y"}};
    const std::vector<std::string> expected = {"sh", "-c", "echo x y $(B)"};
    EXPECT_EQ(expand_all(Json::parse(R"json(["sh", "-c", "echo $(A) $(B)"])json"), known), expected);
    EXPECT_TRUE(expand_all(Json(), {}).empty());
}

TEST(PodHostname, Is_cut_to_63_characters_without_a_trailing_dash) {
    const std::string long_name = std::string(62, 'a') + "-bcd";
    EXPECT_EQ(pod_hostname({{"metadata", {{"name", long_name}}}}), std::string(62, 'a'));
    EXPECT_EQ(pod_hostname({{"metadata", {{"name", "p"}}}}), "p");
    EXPECT_EQ(pod_hostname({{"metadata", {{"name", "p"}}}, {"spec", {{"hostname", "h"}}}}), "h");
}

}  // namespace
}  // namespace k8sgpu::providers
