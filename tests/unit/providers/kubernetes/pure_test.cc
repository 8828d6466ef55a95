// The small pure parts: status, errors of a create, missing inputs, updates, quotas, exec results, log paths.
#include <gtest/gtest.h>

#include "providers/kubernetes/create_errors.h"
#include "providers/kubernetes/exec.h"
#include "providers/kubernetes/exec_status.h"
#include "providers/kubernetes/forwarding.h"
#include "providers/kubernetes/local_inputs.h"
#include "providers/kubernetes/logs.h"
#include "providers/kubernetes/quota.h"
#include "providers/kubernetes/status_map.h"
#include "providers/kubernetes/update.h"
#include "tests/unit/providers/kubernetes/support.h"

namespace k8sgpu::providers::kubernetes {
namespace {

Json remote_pod(const Json& status, const Json& metadata = Json::object()) {
    Json pod = translate(desired_pod(), test_options()).pod;
    pod["metadata"]["uid"] = "remote-uid-1";
    pod["metadata"].merge_patch(metadata);
    pod["status"] = status;
    return pod;
}

TEST(StatusMap, The_status_is_passed_on_as_it_is) {
    const Json status = {{"phase", "Running"},
                         {"podIP", "10.1.1.1"},
                         {"conditions", Json::array({{{"type", "PodScheduled"},
                                                      {"status", "False"},
                                                      {"reason", "Unschedulable"},
                                                      {"message", "0/3 nodes are available"}}})},
                         {"futureField", {1, 2}}};
    const ObservedPod pod = observed_from(kPod, remote_pod(status));
    EXPECT_EQ(pod.status, status);
    EXPECT_EQ(pod.id, kPod);
    EXPECT_EQ(pod.backend_id, "remote-uid-1");
    EXPECT_TRUE(pod.may_be_running);
    EXPECT_FALSE(pod.removing);
    EXPECT_FALSE(pod.gone);
}

TEST(StatusMap, Texts_speak_of_the_pod_by_its_local_name) {
    const std::string name = remote_pod_name(kPod);
    Json status = {{"phase", "Running"}, {"containerStatuses", Json::array()}};
    status["containerStatuses"].push_back(
        {{"name", "main"},
         {"state",
          {{"waiting",
            {{"reason", "CrashLoopBackOff"},
             {"message",
              "back-off 10s restarting failed container=main pod=" + name + "_gpu(remote-uid-1)"}}}}},
         {"lastState", {{"terminated", {{"message", "I am " + name}}}}}});
    const Json out = observed_from(kPod, remote_pod(status)).status["containerStatuses"][0];
    EXPECT_EQ(out["state"]["waiting"]["message"],
              "back-off 10s restarting failed container=main pod=train-0_default(" + kPod.uid + ")");
    EXPECT_EQ(out["lastState"]["terminated"]["message"], "I am " + name) << "the program's own words";
    EXPECT_EQ(localize("pods \"" + name + "\" not found", kPod, "gpu", "remote-uid-1"),
              "pods \"train-0\" not found");
    EXPECT_EQ(localize("gpu/" + name, kPod, "gpu", ""), "default/train-0");
}

TEST(StatusMap, Only_a_terminal_phase_without_running_containers_means_that_nothing_runs) {
    const auto running = [](const Json& status) {
        return observed_from(kPod, remote_pod(status)).may_be_running;
    };
    const Json alive = Json::array({{{"name", "main"}, {"state", {{"running", Json::object()}}}}});
    const Json ended = Json::array({{{"name", "main"}, {"state", {{"terminated", {{"exitCode", 0}}}}}}});
    EXPECT_TRUE(running({{"phase", "Pending"}}));
    EXPECT_TRUE(running({{"phase", "Running"}, {"containerStatuses", ended}})) << "it may be restarted";
    EXPECT_TRUE(running({{"phase", "Unknown"}}));
    EXPECT_TRUE(running({{"phase", "Failed"}, {"containerStatuses", alive}})) << "pod garbage collection";
    EXPECT_TRUE(running({{"phase", "Failed"}, {"initContainerStatuses", alive}}));
    EXPECT_FALSE(running({{"phase", "Failed"}, {"containerStatuses", ended}}));
    EXPECT_FALSE(running({{"phase", "Succeeded"}}));
    EXPECT_FALSE(gone_from(kPod, remote_pod({{"phase", "Running"}})).may_be_running);
    EXPECT_TRUE(
        observed_from(kPod, remote_pod({}, {{"deletionTimestamp", "2026-01-01T00:00:00Z"}})).removing);
}

Error error(ErrorKind kind, std::string message) {
    return {kind, std::move(message), {}, {}};
}

TEST(CreateErrors, What_no_waiting_heals_is_refused_with_the_servers_words) {
    for (const Error& e :
         {error(ErrorKind::Forbidden,
                "pods \"x\" is forbidden: violates PodSecurity \"baseline:latest\": hostPort"),
          error(ErrorKind::Forbidden,
                "pods \"x\" is forbidden: pod rejected: RuntimeClass \"nvidia\" not found"),
          error(ErrorKind::Forbidden, "admission webhook \"a\" denied the request: no"),
          error(ErrorKind::Forbidden,
                "pods \"x\" is forbidden: failed quota: q: must specify limits.cpu for: c"),
          error(ErrorKind::Invalid, "Pod \"x\" is invalid: spec.containers[0].image: Required value")}) {
        auto outcome = outcome_of_create_error(e, "remote pod");
        ASSERT_TRUE(outcome) << e.message;
        const auto* refused = std::get_if<Refused>(&*outcome);
        ASSERT_NE(refused, nullptr) << e.message;
        EXPECT_EQ(refused->reason, "RemoteRejected");
        EXPECT_NE(refused->message.find(e.message), std::string::npos);
    }
}

TEST(CreateErrors, What_somebody_may_heal_blocks_and_shows_why) {
    const std::vector<std::pair<Error, std::string>> cases = {
        {error(ErrorKind::Forbidden, "pods \"x\" is forbidden: exceeded quota: q, requested: pods=1"),
         "RemoteQuotaExceeded"},
        {error(ErrorKind::Forbidden, "pods is forbidden: User \"u\" cannot create resource \"pods\""),
         "RemoteForbidden"},
        {error(ErrorKind::Forbidden, "something new"), "RemoteForbidden"},
        {error(ErrorKind::Unauthorized, "Unauthorized"), "RemoteUnauthorized"},
        {error(ErrorKind::NotFound, "namespaces \"gpu\" not found"), "RemoteNamespaceNotFound"},
    };
    for (const auto& [e, reason] : cases) {
        auto outcome = outcome_of_create_error(e, "remote pod");
        ASSERT_TRUE(outcome);
        const auto* blocked = std::get_if<Blocked>(&*outcome);
        ASSERT_NE(blocked, nullptr) << e.message;
        EXPECT_EQ(blocked->waiting_reason, reason);
        EXPECT_NE(blocked->event_message.find(e.message), std::string::npos);
    }
}

TEST(CreateErrors, What_may_have_happened_or_will_pass_stays_an_error) {
    for (const ErrorKind kind : {ErrorKind::Timeout, ErrorKind::Unavailable, ErrorKind::Throttled,
                                 ErrorKind::Conflict, ErrorKind::Cancelled, ErrorKind::TlsFailure}) {
        auto outcome = outcome_of_create_error(error(kind, "m"), "remote pod");
        ASSERT_FALSE(outcome);
        EXPECT_EQ(outcome.error().kind, kind);
    }
}

struct Inputs {
    DesiredPod desired;
    FetchedObjects fetched;

    std::optional<EnsureOutcome> missing() const {
        return missing_inputs(desired.id, desired.pod, collect_references(desired.pod), fetched);
    }
    void absent(LocalKind kind, const std::string& name) {
        fetched.insert_or_assign(ObjectKey{kind, name}, Result<Json>(fail(ErrorKind::NotFound, "x")));
    }
    void present(LocalKind kind, const std::string& name, Json object) {
        fetched.insert_or_assign(ObjectKey{kind, name}, Result<Json>(std::move(object)));
    }
};

Json env_of(const char* ref, const Json& selector) {
    return {{"containers",
             Json::array({{{"name", "main"},
                           {"image", "i"},
                           {"env", Json::array({{{"name", "A"}, {"valueFrom", {{ref, selector}}}}})}}})}};
}

TEST(LocalInputs, A_missing_object_in_env_waits_as_the_kubelet_waits) {
    Inputs inputs{desired_pod(env_of("configMapKeyRef", {{"name", "x"}, {"key", "k"}})), {}};
    inputs.absent(LocalKind::ConfigMap, "x");
    const auto outcome = inputs.missing();
    ASSERT_TRUE(outcome.has_value());
    const auto& blocked = std::get<Blocked>(*outcome);
    EXPECT_EQ(blocked.waiting_reason, "CreateContainerConfigError");
    EXPECT_EQ(blocked.waiting_message, "configmap \"x\" not found");
    EXPECT_EQ(blocked.containers, std::vector<std::string>{"main"});
    EXPECT_EQ(blocked.event_reason, "Failed");
    EXPECT_EQ(blocked.event_message, "Error: configmap \"x\" not found");
}

TEST(LocalInputs, A_missing_key_is_told_by_its_local_name) {
    Inputs inputs{desired_pod(env_of("secretKeyRef", {{"name", "s"}, {"key", "k"}})), {}};
    inputs.present(LocalKind::Secret, "s", {{"data", {{"other", "eA=="}}}});
    EXPECT_EQ(std::get<Blocked>(*inputs.missing()).waiting_message,
              "couldn't find key k in Secret default/s");
}

TEST(LocalInputs, A_missing_volume_source_comes_before_env_and_waits_for_the_mount) {
    Json fields = env_of("configMapKeyRef", {{"name", "x"}, {"key", "k"}});
    fields["volumes"] = Json::array({{{"name", "v"}, {"secret", {{"secretName", "y"}}}}});
    Inputs inputs{desired_pod(fields), {}};
    inputs.absent(LocalKind::ConfigMap, "x");
    inputs.absent(LocalKind::Secret, "y");
    auto blocked = std::get<Blocked>(*inputs.missing());
    EXPECT_EQ(blocked.waiting_reason, "ContainerCreating");
    EXPECT_EQ(blocked.waiting_message, "");
    EXPECT_EQ(blocked.event_reason, "FailedMount");
    EXPECT_EQ(blocked.event_message, "MountVolume.SetUp failed for volume \"v\" : secret \"y\" not found");
    inputs.desired.pod["spec"]["initContainers"] = Json::array({{{"name", "i"}}});
    EXPECT_EQ(std::get<Blocked>(*inputs.missing()).waiting_reason, "PodInitializing");
}

TEST(LocalInputs, Optional_objects_and_keys_and_pull_secrets_may_be_absent) {
    Inputs inputs{desired_pod(env_of("configMapKeyRef", {{"name", "x"}, {"key", "k"}, {"optional", true}})),
                  {}};
    inputs.desired.pod["spec"]["imagePullSecrets"] = Json::array({{{"name", "pull"}}});
    inputs.absent(LocalKind::ConfigMap, "x");
    inputs.absent(LocalKind::Secret, "pull");
    EXPECT_FALSE(inputs.missing().has_value());
    EXPECT_EQ(missing_pull_secrets(collect_references(inputs.desired.pod), inputs.fetched),
              std::vector<std::string>{"pull"});
    inputs.present(LocalKind::ConfigMap, "x", {{"data", {{"other", "v"}}}});
    EXPECT_FALSE(inputs.missing().has_value());
}

TEST(LocalInputs, A_secret_that_may_not_be_read_says_so) {
    Inputs inputs{desired_pod(env_of("secretKeyRef", {{"name", "s"}, {"key", "k"}})), {}};
    inputs.fetched.insert_or_assign(
        ObjectKey{LocalKind::Secret, "s"},
        Result<Json>(fail(ErrorKind::Forbidden, "secrets \"s\" is forbidden: no")));
    EXPECT_EQ(std::get<Blocked>(*inputs.missing()).waiting_message, "secrets \"s\" is forbidden: no");
}

TEST(LocalInputs, A_service_accounts_token_is_not_handed_over) {
    Inputs inputs{desired_pod(env_of("secretKeyRef", {{"name", "s"}, {"key", "token"}})), {}};
    inputs.present(LocalKind::Secret, "s",
                   {{"type", "kubernetes.io/service-account-token"}, {"data", {{"token", "x"}}}});
    const auto outcome = inputs.missing();
    ASSERT_TRUE(outcome.has_value());
    EXPECT_TRUE(std::holds_alternative<Refused>(*outcome));
}

TEST(LocalInputs, What_the_remote_pod_will_not_have_is_not_read) {
    const DesiredPod desired = desired_pod(
        {{"volumes",
          Json::array({{{"name", "kube-api-access-x"},
                        {"projected",
                         {{"sources", Json::array({{{"serviceAccountToken", {{"path", "token"}}}},
                                                   {{"configMap", {{"name", "kube-root-ca.crt"}}}}})}}}}})}});
    EXPECT_TRUE(carried_references(desired.pod).empty());
}

TEST(Update, Labels_images_and_deadline_are_carried_and_foreign_additions_stay) {
    DesiredPod before = desired_pod();
    before.pod["metadata"]["labels"] = {{"keep", "1"}, {"old", "x"}, {"change", "1"}};
    Json remote = translate(before, test_options()).pod;
    remote["metadata"]["uid"] = "remote-uid-1";
    remote["metadata"]["labels"]["theirs"] = "y";
    EXPECT_EQ(update_patch(remote, translate(before, test_options()).pod), std::nullopt);

    DesiredPod after = before;
    after.pod["metadata"]["labels"] = {{"keep", "1"}, {"change", "2"}, {"new", "3"}};
    after.pod["spec"]["containers"][0]["image"] = "busybox:2";
    after.pod["spec"]["activeDeadlineSeconds"] = 5;
    const auto patch = update_patch(remote, translate(after, test_options()).pod);
    ASSERT_TRUE(patch.has_value());
    EXPECT_EQ((*patch)["metadata"]["labels"], Json({{"change", "2"}, {"new", "3"}, {"old", nullptr}}));
    EXPECT_EQ((*patch)["metadata"]["uid"], "remote-uid-1");
    EXPECT_EQ((*patch)["spec"],
              Json({{"activeDeadlineSeconds", 5},
                    {"containers", Json::array({{{"name", "main"}, {"image", "busybox:2"}}})}}));
}

TEST(Update, Tolerations_are_added_and_none_is_taken_away) {
    Json remote = translate(desired_pod(), test_options()).pod;
    remote["spec"]["tolerations"] = Json::array({{{"key", "node.kubernetes.io/not-ready"}}});
    Json wanted = remote;
    wanted["spec"]["tolerations"] = Json::array({{{"key", "gpu"}, {"operator", "Exists"}}});
    EXPECT_EQ(
        update_patch(remote, wanted).value()["spec"]["tolerations"],
        Json::array({{{"key", "node.kubernetes.io/not-ready"}}, {{"key", "gpu"}, {"operator", "Exists"}}}));
    wanted["spec"]["tolerations"] = remote["spec"]["tolerations"];
    EXPECT_EQ(update_patch(remote, wanted), std::nullopt);
}

TEST(Update, A_resize_carries_stated_cpu_and_memory_only) {
    Json local = desired_pod().pod;
    local["spec"]["containers"][0]["resources"] = {{"requests", {{"cpu", "1"}, {"nvidia.com/gpu", "1"}}}};
    Json remote = translate({kPod, local}, test_options()).pod;
    remote["metadata"]["uid"] = "remote-uid-1";
    // What a LimitRange over there added is not ours to take away.
    remote["spec"]["containers"][0]["resources"]["limits"] = {{"memory", "4Gi"}};
    EXPECT_EQ(resize_patch(remote, translate({kPod, local}, test_options()).pod), std::nullopt);

    local["spec"]["containers"][0]["resources"] = {{"requests", {{"cpu", "2"}, {"nvidia.com/gpu", "2"}}},
                                                   {"limits", {{"memory", "8Gi"}}}};
    const auto patch = resize_patch(remote, translate({kPod, local}, test_options()).pod);
    ASSERT_TRUE(patch.has_value());
    EXPECT_EQ((*patch)["metadata"]["uid"], "remote-uid-1");
    EXPECT_EQ(
        (*patch)["spec"]["containers"],
        Json::array({{{"name", "main"},
                      {"resources", {{"requests", {{"cpu", "2"}}}, {"limits", {{"memory", "8Gi"}}}}}}}));
}

TEST(Update, Ephemeral_containers_are_translated_and_added_once) {
    DesiredPod desired = desired_pod();
    desired.pod["spec"]["ephemeralContainers"] = Json::array(
        {{{"name", "debug"},
          {"image", "busybox"},
          {"targetContainerName", "main"},
          {"env",
           Json::array({{{"name", "A"}, {"valueFrom", {{"secretKeyRef", {{"name", "s"}, {"key", "k"}}}}}}})}},
         {{"name", "root"}, {"image", "busybox"}, {"securityContext", {{"privileged", true}}}}});
    EXPECT_FALSE(refusal_of(translate(desired, test_options())).has_value()) << "the pod itself may run";
    const Translation ephemeral = translate_ephemeral(desired, test_options());
    ASSERT_EQ(ephemeral.pod.size(), 1U);
    EXPECT_NE(ephemeral.pod[0]["env"][0]["valueFrom"]["secretKeyRef"]["name"], "s");
    ASSERT_EQ(ephemeral.refusals.size(), 1U);
    EXPECT_EQ(ephemeral.refusals[0].field, "spec.ephemeralContainers[1].securityContext.privileged");

    Json remote = translate(desired, test_options()).pod;
    remote["metadata"]["uid"] = "remote-uid-1";
    const auto patch = ephemeral_patch(remote, ephemeral.pod);
    ASSERT_TRUE(patch.has_value());
    EXPECT_EQ((*patch)["spec"]["ephemeralContainers"], ephemeral.pod);
    remote["spec"]["ephemeralContainers"] = ephemeral.pod;
    EXPECT_EQ(ephemeral_patch(remote, ephemeral.pod), std::nullopt);
}

TEST(Quota, The_smallest_of_all_limits_counts_and_the_fallback_fills_in) {
    const std::vector<Json> quotas = {
        {{"spec",
          {{"hard",
            {{"requests.cpu", "8"},
             {"limits.cpu", "4"},
             {"memory", "32Gi"},
             {"requests.nvidia.com/gpu", "2"},
             {"count/pods", "50"},
             {"services", "3"},
             {"requests.storage", "1Ti"},
             {"fast.storageclass.storage.k8s.io/requests.storage", "1Ti"},
             {"count/jobs.batch", "4"}}}}}},
        {{"spec", {{"hard", {{"pods", "40"}, {"memory", "64Gi"}}}}}},
        {{"spec", {{"hard", {{"pods", "1"}}}, {"scopes", {"BestEffort"}}}}},
        {{"spec", {{"hard", {{"pods", "2"}}}, {"scopeSelector", {{"matchExpressions", {1}}}}}}},
    };
    EXPECT_EQ(
        capacity_from_quotas(quotas, {{"ephemeral-storage", "10Gi"}, {"cpu", "100"}, {"memory", "16Gi"}}),
        (Quantities{{"cpu", "4"},
                    {"memory", "16Gi"},
                    {"nvidia.com/gpu", "2"},
                    {"pods", "40"},
                    {"ephemeral-storage", "10Gi"}}));
    EXPECT_EQ(capacity_from_quotas({}, {{"cpu", "1"}}), (Quantities{{"cpu", "1"}}));
}

TEST(ExecStatus, Codes_and_failures_are_told_apart) {
    EXPECT_EQ(parse_exec_status(R"({"status":"Success"})")->code, 0);
    EXPECT_EQ(parse_exec_status(R"({"metadata":{},"status":"Failure","reason":"NonZeroExitCode","message":"m",
        "details":{"causes":[{"reason":"ExitCode","message":"3"}]}})")
                  ->code,
              3);
    const auto failed = parse_exec_status(
        R"({"status":"Failure","reason":"InternalError","code":500,
            "message":"Internal error occurred: error executing command in container: exec: \"nope\": not found"})");
    ASSERT_FALSE(failed);
    EXPECT_EQ(failed.error().kind, ErrorKind::Internal);
    EXPECT_EQ(failed.error().message, "exec: \"nope\": not found");
    EXPECT_EQ(parse_exec_status("").error().kind, ErrorKind::Unavailable) << "never taken for success";
    EXPECT_EQ(parse_exec_status("oops").error().kind, ErrorKind::Protocol);
    EXPECT_FALSE(parse_exec_status(R"({"status":"Failure"})"));
}

TEST(Paths, Log_options_are_all_in_the_query) {
    LogRequest request;
    const RemoteAddress pod{"gpu", "p", "u"};
    EXPECT_EQ(log_path(pod, request), "/api/v1/namespaces/gpu/pods/p/log");
    request.container = "main";
    request.follow = request.previous = request.timestamps = true;
    request.tail_lines = 0;
    request.limit_bytes = 10;
    request.since_seconds = 5;
    request.since_time = WallTime(std::chrono::seconds(1'700'000'000));
    EXPECT_EQ(log_path(pod, request),
              "/api/v1/namespaces/gpu/pods/p/log?container=main&follow=true&previous=true&timestamps=true"
              "&tailLines=0&limitBytes=10&sinceSeconds=5&sinceTime=2023-11-14T22%3A13%3A20.000000000Z");
}

TEST(Paths, Commands_keep_their_words_apart) {
    ExecRequest request;
    request.container = "main";
    request.command = {"sh", "-c", "exit 3 & echo"};
    EXPECT_EQ(command_path({"gpu", "p", "u"}, request, {.in = true, .out = true, .err = false, .tty = true}),
              "/api/v1/namespaces/gpu/pods/p/exec?container=main&command=sh&command=-c"
              "&command=exit%203%20%26%20echo&stdin=true&stdout=true&stderr=false&tty=true");
    request.command.clear();
    EXPECT_TRUE(
        command_path({"gpu", "p", "u"}, request, {}).starts_with("/api/v1/namespaces/gpu/pods/p/attach?"));
}

}  // namespace
}  // namespace k8sgpu::providers::kubernetes
