#include "providers/process/check.h"

#include <gtest/gtest.h>

#include "providers/process/prepare.h"

namespace k8sgpu::providers::process {
namespace {

CheckFacts unprivileged() {
    CheckFacts facts;
    facts.user.uid = facts.user.gid = 1000;
    facts.user.groups = {1000, 27};
    facts.resources = {"nvidia.com/gpu"};
    return facts;
}

CheckFacts root() {
    CheckFacts facts;
    facts.user.primary_group = [](uid_t uid) { return uid == 33 ? std::optional<gid_t>(44) : std::nullopt; };
    return facts;
}

Json pod() {
    return Json::parse(R"({"metadata": {"name": "p", "namespace": "ns", "uid": "u"}, "spec": {"containers": [
        {"name": "c", "image": "busybox", "command": ["true"]}]}})");
}

// The pod with this merged in; `container` into its container.
Json with(const char* spec, const char* container = "{}") {
    Json json = pod();
    json["spec"].merge_patch(Json::parse(spec));
    json["spec"]["containers"][0].merge_patch(Json::parse(container));
    return json;
}

std::string refusal(const Json& json, const CheckFacts& facts = unprivileged()) {
    const auto refused = check_pod(json, facts);
    return refused ? refused->message : "";
}

TEST(CheckPod, Accepts_what_processes_can_do) {
    EXPECT_EQ(refusal(pod()), "");
    EXPECT_EQ(refusal(with(R"({"restartPolicy": "OnFailure", "dnsPolicy": "ClusterFirst", "hostNetwork": true,
        "terminationGracePeriodSeconds": 5, "runtimeClassName": "k8s.gpu", "serviceAccountName": "default",
        "enableServiceLinks": true, "tolerations": [{}], "imagePullSecrets": [{"name": "x"}], "securityContext": {},
        "hostname": "h", "setHostnameAsFQDN": false, "activeDeadlineSeconds": 5,
        "volumes": [{"name": "kube-api-access-abcde", "projected": {"sources": [{"serviceAccountToken": {}},
           {"configMap": {"name": "kube-root-ca.crt"}}]}}]})",
                           R"({"ports": [{"containerPort": 80, "hostPort": 80}], "workingDir": "/tmp",
        "terminationMessagePath": "/dev/termination-log", "imagePullPolicy": "Always",
        "stdin": true, "stdinOnce": true, "tty": true,
        "volumeMounts": [{"name": "kube-api-access-abcde", "mountPath": "/var/run/x"}],
        "resources": {"limits": {"cpu": "1", "memory": "1Gi", "nvidia.com/gpu": "1"}, "requests": {"ephemeral-storage": "1Gi"}},
        "securityContext": {"runAsUser": 1000, "runAsGroup": 1000, "runAsNonRoot": true, "privileged": false,
           "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": false, "procMount": "Default",
           "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "Unconfined"}}})")),
              "");
}

struct Case {
    const char* spec;
    const char* container;
    const char* begins;  // of the message: field and value
};

TEST(CheckPod, Refuses_with_the_field_named_and_a_way_out) {
    for (const Case& c : {
             Case{R"({"volumes": [{"name": "v", "emptyDir": {}}]})", "{}", "spec.volumes[0] (v, emptyDir): "},
             Case{R"({"volumes": [{"name": "kube-api-access-x", "hostPath": {"path": "/"}}]})", "{}",
                  "spec.volumes[0] (kube-api-access-x, hostPath): "},
             Case{R"({"dnsConfig": {"nameservers": ["1.1.1.1"]}})", "{}", "spec.dnsConfig: "},
             Case{R"({"hostAliases": [{"ip": "1.1.1.1"}]})", "{}", "spec.hostAliases: "},
             Case{R"({"setHostnameAsFQDN": true})", "{}", "spec.setHostnameAsFQDN: "},
             Case{R"({"resourceClaims": [{"name": "x"}]})", "{}", "spec.resourceClaims: "},
             Case{R"({"ephemeralContainers": [{"name": "x"}]})", "{}", "spec.ephemeralContainers: "},
             Case{R"({"hostUsers": false})", "{}", "spec.hostUsers: false: "},
             Case{R"({"os": {"name": "windows"}})", "{}", "spec.os.name: windows: "},
             Case{R"({"initContainers": [{"name": "i", "command": ["x"], "restartPolicy": "Always"}]})", "{}",
                  "spec.initContainers[0].restartPolicy: Always: "},
             Case{"{}", R"({"command": null})", "spec.containers[0].command: "},
             Case{"{}", R"({"livenessProbe": {"grpc": {"port": 1}}})",
                  "spec.containers[0].livenessProbe.grpc: "},
             Case{"{}", R"({"readinessProbe": {"grpc": {"port": 1}}})",
                  "spec.containers[0].readinessProbe.grpc: "},
             Case{"{}", R"({"startupProbe": {"grpc": {"port": 1}}})",
                  "spec.containers[0].startupProbe.grpc: "},
             Case{"{}", R"({"lifecycle": {"preStop": {}}})", "spec.containers[0].lifecycle.preStop: "},
             Case{"{}", R"({"lifecycle": {"stopSignal": "SIGUSR1"}})",
                  "spec.containers[0].lifecycle.stopSignal: SIGUSR1: "},
             Case{"{}", R"({"livenessProbe": {"httpGet": {"port": "web"}}})",
                  "spec.containers[0].livenessProbe.httpGet.port: \"web\": "},
             Case{"{}", R"({"ports": [{"containerPort": 1}, {"hostPort": 80}]})",
                  "spec.containers[0].ports[1].hostPort: 80: "},
             Case{"{}", R"({"terminationMessagePath": "/tmp/x"})",
                  "spec.containers[0].terminationMessagePath: /tmp/x: "},
             Case{"{}", R"({"workingDir": "sub"})", "spec.containers[0].workingDir: sub: "},
             Case{"{}", R"({"resources": {"limits": {"amd.com/gpu": "1"}}})",
                  "spec.containers[0].resources.limits[amd.com/gpu]: "},
             Case{"{}", R"({"resources": {"requests": {"hugepages-2Mi": "4Mi"}}})",
                  "spec.containers[0].resources.requests[hugepages-2Mi]: "},
             Case{"{}", R"({"volumeDevices": [{"name": "x"}]})", "spec.containers[0].volumeDevices: "},
             Case{"{}", R"({"securityContext": {"privileged": true}})",
                  "spec.containers[0].securityContext.privileged: "},
             Case{"{}", R"({"securityContext": {"readOnlyRootFilesystem": true}})",
                  "spec.containers[0].securityContext.readOnlyRootFilesystem: "},
             Case{"{}", R"({"securityContext": {"procMount": "Unmasked"}})",
                  "spec.containers[0].securityContext.procMount: "},
             Case{"{}", R"({"securityContext": {"capabilities": {"add": ["NET_ADMIN"]}}})",
                  "spec.containers[0].securityContext.capabilities.add: "},
             Case{
                 "{}", R"({"securityContext": {"capabilities": {"drop": ["NONSENSE"]}}})",
                 "spec.containers[0].securityContext.capabilities.drop: \"NONSENSE\" is no Linux capability"},
             Case{"{}", R"({"securityContext": {"fromTheFuture": true}})",
                  "spec.containers[0].securityContext.fromTheFuture: is not known to this version"},
             Case{R"({"securityContext": {"seccompProfile": {"type": "RuntimeDefault"}}})", "{}",
                  "spec.securityContext.seccompProfile: "},
             Case{R"({"securityContext": {"appArmorProfile": {"type": "Localhost"}}})", "{}",
                  "spec.securityContext.appArmorProfile: "},
             Case{R"({"securityContext": {"sysctls": [{"name": "a"}]}})", "{}",
                  "spec.securityContext.sysctls: "},
             Case{R"({"securityContext": {"seLinuxOptions": {"level": "s0"}}})", "{}",
                  "spec.securityContext.seLinuxOptions: "},
             Case{R"({"securityContext": {"runAsUser": 0}})", "{}",
                  "spec.securityContext.runAsUser: 0 is another user than the agent's (1000)"},
             Case{
                 "{}", R"({"securityContext": {"runAsGroup": 5}})",
                 "spec.containers[0].securityContext.runAsGroup: 5 is another group than the agent's (1000)"},
             Case{R"({"securityContext": {"fsGroup": 99}})", "{}",
                  "spec.securityContext: the agent's user is not in group 99"},
         }) {
        const std::string message = refusal(with(c.spec, c.container));
        EXPECT_EQ(message.rfind(c.begins, 0), 0U) << c.spec << c.container << "\n  " << message;
        EXPECT_NE(message.find("; "), std::string::npos) << message;
    }
}

TEST(CheckPod, Names_the_image_whose_entrypoint_cannot_be_known) {
    EXPECT_EQ(refusal(with("{}", R"({"command": null, "args": ["x"]})")),
              "spec.containers[0].command: the process provider runs commands of this host and reads no "
              "images, so it "
              "cannot know the entrypoint of \"busybox\"; set the command");
}

TEST(CheckPod, A_root_agent_refuses_to_run_as_root_what_must_not) {
    const auto refused = check_pod(with("{}", R"({"securityContext": {"runAsNonRoot": true}})"), root());
    ASSERT_TRUE(refused);
    EXPECT_EQ(refused->reason, "CreateContainerConfigError");
    EXPECT_EQ(refusal(with("{}", R"({"securityContext": {"runAsNonRoot": true, "runAsUser": 33}})"), root()),
              "");
}

Identity identity(const char* spec, const char* container, const CheckFacts& facts) {
    const Json json = with(spec, container);
    const auto outcome = identity_of(json, json["spec"]["containers"][0], "spec.containers[0]", facts.user);
    if (const auto* refused = std::get_if<Refused>(&outcome)) {
        ADD_FAILURE() << refused->message;
        return {};
    }
    return std::get<Identity>(outcome);
}

TEST(IdentityOf, A_root_agent_switches_to_what_the_container_asks_for) {
    const Identity own = identity(
        R"({"securityContext": {"runAsUser": 1, "runAsGroup": 2, "fsGroup": 7, "supplementalGroups": [8]}})",
        R"({"securityContext": {"runAsUser": 33}})", root());
    EXPECT_TRUE(own.switch_user);
    EXPECT_EQ(own.uid, 33U);
    EXPECT_EQ(own.gid, 2U);
    EXPECT_EQ(own.groups, (std::vector<gid_t>{8, 7}));
    EXPECT_EQ(identity(R"({"securityContext": {"runAsUser": 33}})", "{}", root()).gid, 44U);
    EXPECT_EQ(refusal(with(R"({"securityContext": {"runAsUser": 5}})"), root()),
              "spec.securityContext.runAsUser: user 5 has no group on this host; set runAsGroup too");
    EXPECT_FALSE(identity("{}", "{}", root()).switch_user);
}

TEST(IdentityOf, Dropped_capabilities_leave_the_bounding_set_of_root_and_close_the_door_for_others) {
    const char* drop_two = R"({"securityContext": {"capabilities": {"drop": ["NET_RAW", "cap_kill"]}}})";
    EXPECT_EQ(identity("{}", drop_two, root()).dropped_capabilities, (std::vector<int>{13, 5}));
    EXPECT_EQ(identity("{}", R"({"securityContext": {"capabilities": {"drop": ["ALL"]}}})", root())
                  .dropped_capabilities.size(),
              static_cast<std::size_t>(kCapabilityCount));
    const Identity other = identity("{}", drop_two, unprivileged());
    EXPECT_TRUE(other.dropped_capabilities.empty());
    EXPECT_TRUE(other.no_new_privileges);
}

TEST(IdentityOf, Privilege_escalation_is_closed_when_asked) {
    EXPECT_TRUE(identity("{}", R"({"securityContext": {"allowPrivilegeEscalation": false}})", root())
                    .no_new_privileges);
    EXPECT_FALSE(identity("{}", R"({"securityContext": {"allowPrivilegeEscalation": true}})", root())
                     .no_new_privileges);
}

TEST(IdentityOf, Groups_that_the_agent_is_in_are_fine_without_privilege) {
    EXPECT_FALSE(identity(R"({"securityContext": {"fsGroup": 27, "supplementalGroups": [1000]}})", "{}",
                          unprivileged())
                     .switch_user);
}

TEST(Intent, Survives_the_way_through_its_file) {
    PodIntent intent;
    intent.id = {"ns", "p", "u"};
    intent.restart = RestartPolicy::OnFailure;
    intent.grace = std::chrono::seconds(7);
    intent.active_deadline = std::chrono::seconds(9);
    intent.pod_ips = {"1.2.3.4"};
    intent.limits.log_bytes = 11;
    ContainerIntent container;
    container.name = "c";
    container.image = "i";
    container.init = true;
    container.argv = {"a", "b c"};
    container.environment = {"K=v=w"};
    container.directory = "/d";
    container.message_from_log = true;
    container.gpus = {3, 4};
    container.identity = {true, 1, 2, {3}, true, {5}};
    intent.containers = {container};
    const Json json = to_json(intent);
    const auto back = intent_from_json(json);
    ASSERT_TRUE(back) << back.error().message;
    EXPECT_EQ(to_json(*back), json);
    EXPECT_EQ(back->containers[0].identity.groups, std::vector<gid_t>{3});
    EXPECT_EQ(back->active_deadline, std::chrono::seconds(9));
}

TEST(Intent, Of_another_version_or_without_content_is_not_run) {
    EXPECT_FALSE(intent_from_json(Json::object()));
    EXPECT_FALSE(intent_from_json({{"version", 2}}));
    EXPECT_FALSE(intent_from_json({{"version", 1}, {"uid", "u"}}));
    EXPECT_FALSE(intent_from_json({{"version", 1}, {"uid", "u"}, {"containers", {{{"name", "c"}}}}}));
}

TEST(SafeUid, Is_a_file_name_and_nothing_else) {
    EXPECT_TRUE(is_safe_uid("0b8f5f7e-9d3c-4a53-9d5c-1f2b3c4d5e6f"));
    for (const char* uid : {"", ".", "..", "a/b", "a b", "\n", "a.b"}) EXPECT_FALSE(is_safe_uid(uid)) << uid;
    EXPECT_FALSE(is_safe_uid(std::string(129, 'a')));
}

}  // namespace
}  // namespace k8sgpu::providers::process
