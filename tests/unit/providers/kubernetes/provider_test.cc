// The provider against a small remote API server, with its own threads.
#include "providers/kubernetes/provider.h"

#include <gtest/gtest.h>

#include <atomic>

#include "providers/kubernetes/owner_mark.h"
#include "providers/port/logs.h"
#include "tests/unit/providers/kubernetes/fake_remote.h"
#include "tests/unit/providers/kubernetes/support.h"

namespace k8sgpu::providers::kubernetes {
namespace {

using namespace std::chrono_literals;

KubernetesProviderOptions provider_options() {
    KubernetesProviderOptions options;
    options.remote_namespace = "gpu";
    options.owner = kOwner;
    options.fallback_capacity = {{"cpu", "16"}};
    return options;
}

class KubernetesProviderTest : public ::testing::Test {
  protected:
    void start() {
        ASSERT_TRUE(provider_.start(observer_));
        ASSERT_TRUE(observer_.wait_for([](const auto& seen) { return !seen.reachable.empty(); }));
    }
    void TearDown() override { provider_.stop(); }

    CallContext ctx() { return CallContext::with_timeout(clock_, Duration(10'000), {}); }
    Result<EnsureOutcome> ensure(const DesiredPod& pod = desired_pod()) {
        return provider_.ensure(pod, ctx());
    }
    bool accepted(const DesiredPod& pod = desired_pod()) {
        auto outcome = ensure(pod);
        return outcome && std::holds_alternative<Accepted>(*outcome);
    }
    void schedule() {
        remote_.edit("pods", name_, [](Json& pod) {
            pod["spec"]["nodeName"] = "gpu-node-1";
            pod["status"]["phase"] = "Running";
        });
    }
    std::size_t posts() {
        std::size_t count = 0;
        for (const auto& path : remote_.calls("POST")) count += path.ends_with("/pods") ? 1U : 0U;
        return count;
    }
    template <typename Pred>
    bool wait_for_pod(Pred pred) {
        return observer_.wait_for(
            [&](const auto& seen) { return !seen.pods.empty() && pred(seen.pods.back()); });
    }
    static std::optional<Result<kube::Response>> unavailable_pod_post(const kube::Request& request) {
        if (request.method != "POST" || !request.path.ends_with("/pods")) return std::nullopt;
        return Result<kube::Response>(fail(ErrorKind::Timeout, "deadline passed"));
    }

    SystemClock clock_;
    FakeRemote remote_;
    kube::ApiClient client_{remote_};
    MapObjects local_;
    RecordingObserver observer_;
    KubernetesProvider provider_{provider_options(), client_, local_, clock_};
    const std::string name_ = remote_pod_name(kPod);
};

TEST_F(KubernetesProviderTest, A_pod_is_created_watched_and_removed) {
    start();
    ASSERT_TRUE(accepted());
    ASSERT_FALSE(remote_.find("pods", name_).is_null());
    schedule();
    ASSERT_TRUE(
        wait_for_pod([](const ObservedPod& p) { return string_at(p.status, {"phase"}) == "Running"; }));
    EXPECT_EQ(observer_.seen().pods.back().id, kPod);

    ASSERT_TRUE(provider_.remove(kPod, 12s, ctx()));
    EXPECT_EQ(remote_.find("pods", name_)["metadata"]["deletionGracePeriodSeconds"], 12);
    ASSERT_TRUE(wait_for_pod([](const ObservedPod& p) { return p.removing && !p.gone; }));
    remote_.erase("pods", name_);
    ASSERT_TRUE(wait_for_pod([](const ObservedPod& p) { return p.gone; }));
    const ObservedPod last = observer_.seen().pods.back();
    EXPECT_FALSE(last.may_be_running);
    EXPECT_EQ(string_at(last.status, {"phase"}), "Running") << "the last status known";
}

TEST_F(KubernetesProviderTest, Ensuring_twice_makes_one_pod) {
    start();
    ASSERT_TRUE(accepted());
    const Json uid = remote_.find("pods", name_)["metadata"]["uid"];
    ASSERT_TRUE(accepted());
    KubernetesProvider after_restart(provider_options(), client_, local_, clock_);
    auto outcome = after_restart.ensure(desired_pod(), ctx());
    ASSERT_TRUE(outcome);
    EXPECT_TRUE(std::holds_alternative<Accepted>(*outcome));
    EXPECT_EQ(remote_.find("pods", name_)["metadata"]["uid"], uid);
    EXPECT_EQ(remote_.all("pods").size(), 1U);
}

TEST_F(KubernetesProviderTest, A_create_whose_answer_was_lost_is_not_repeated) {
    start();
    remote_.set_fault({}, unavailable_pod_post);
    auto lost = ensure();
    ASSERT_FALSE(lost);
    EXPECT_EQ(lost.error().kind, ErrorKind::Timeout);
    const Json uid = remote_.find("pods", name_)["metadata"]["uid"];
    remote_.set_fault({});
    ASSERT_TRUE(accepted());
    EXPECT_EQ(remote_.find("pods", name_)["metadata"]["uid"], uid);
}

TEST_F(KubernetesProviderTest,
       A_pod_that_existed_and_was_deleted_in_between_is_reported_gone_not_made_again) {
    start();
    remote_.set_fault([&](const kube::Request& request) -> std::optional<Result<kube::Response>> {
        if (request.method != "POST") return std::nullopt;
        return Result<kube::Response>(FakeRemote::status(409, "AlreadyExists", "already exists"));
    });
    ASSERT_TRUE(accepted());
    EXPECT_TRUE(wait_for_pod([](const ObservedPod& p) { return p.gone; }));
    EXPECT_TRUE(remote_.all("pods").empty());
}

TEST_F(KubernetesProviderTest, A_foreign_pod_of_that_name_is_neither_adopted_nor_removed) {
    start();
    remote_.put("pods", {{"metadata", {{"name", name_}}}, {"spec", {{"nodeName", "n"}}}});
    auto outcome = ensure();
    ASSERT_TRUE(outcome);
    ASSERT_TRUE(std::holds_alternative<Refused>(*outcome));
    EXPECT_EQ(std::get<Refused>(*outcome).reason, "NameConflict");
    auto removed = provider_.remove(kPod, 0s, ctx());
    ASSERT_FALSE(removed);
    EXPECT_EQ(removed.error().kind, ErrorKind::Conflict);
    EXPECT_TRUE(remote_.calls("DELETE").empty());
    EXPECT_FALSE(provider_.observe(kPod, ctx()));
}

TEST_F(KubernetesProviderTest, Strangers_in_the_namespace_are_not_seen) {
    Json stranger = translate(desired_pod(), test_options()).pod;
    stranger["metadata"]["labels"][kClusterLabel] = "another-cluster";
    remote_.put("pods", stranger);
    Json renamed = translate(desired_pod(), test_options()).pod;
    renamed["metadata"]["name"] = "debug-copy";
    remote_.put("pods", renamed);
    start();
    auto pods = provider_.list(ctx());
    ASSERT_TRUE(pods);
    EXPECT_TRUE(pods->empty());
    EXPECT_TRUE(observer_.seen().pods.empty());
    EXPECT_TRUE(remote_.calls("DELETE").empty());
}

TEST_F(KubernetesProviderTest, Refused_before_anything_is_read_or_created) {
    start();
    const DesiredPod pod =
        desired_pod({{"hostNetwork", true},
                     {"volumes", Json::array({{{"name", "v"}, {"secret", {{"secretName", "s"}}}}})}});
    const auto refused = provider_.check(pod);
    ASSERT_TRUE(refused.has_value());
    auto outcome = ensure(pod);
    ASSERT_TRUE(outcome);
    EXPECT_TRUE(std::holds_alternative<Refused>(*outcome));
    EXPECT_TRUE(remote_.calls("POST").empty());
    EXPECT_TRUE(local_.fetched().empty());
}

Json with_secret_volume(const char* secret) {
    return {{"volumes", Json::array({{{"name", "v"}, {"secret", {{"secretName", secret}}}}})}};
}

TEST_F(KubernetesProviderTest, A_missing_secret_blocks_and_creates_nothing) {
    start();
    auto outcome = ensure(desired_pod(with_secret_volume("s")));
    ASSERT_TRUE(outcome);
    ASSERT_TRUE(std::holds_alternative<Blocked>(*outcome));
    EXPECT_TRUE(remote_.calls("POST").empty());
    local_.set(LocalKind::Secret, "s", {{"data", {{"k", "dg=="}}}});
    EXPECT_TRUE(accepted(desired_pod(with_secret_volume("s"))));
}

TEST_F(KubernetesProviderTest, An_unreachable_local_cluster_is_an_error_not_an_absence) {
    start();
    local_.fail_with({ErrorKind::Unavailable, "down", {}, {}});
    auto outcome = ensure(desired_pod(with_secret_volume("s")));
    ASSERT_FALSE(outcome);
    EXPECT_EQ(outcome.error().kind, ErrorKind::Unavailable);
    EXPECT_TRUE(remote_.calls("POST").empty());
}

TEST_F(KubernetesProviderTest, Exactly_the_named_objects_are_read_and_copied_before_the_pod) {
    start();
    local_.set(LocalKind::Secret, "s", {{"data", {{"k", "dg=="}}}});
    local_.set(LocalKind::Secret, "unused", {{"data", {{"k", "dg=="}}}});
    ASSERT_TRUE(accepted(desired_pod(with_secret_volume("s"))));
    EXPECT_EQ(local_.fetched(), std::vector<std::string>{"default/s"});
    const auto created = remote_.calls("POST");
    ASSERT_EQ(created.size(), 2U);
    EXPECT_TRUE(created[0].ends_with("/secrets"));
    EXPECT_TRUE(created[1].ends_with("/pods"));
    EXPECT_EQ(remote_.all("secrets").size(), 1U);
    EXPECT_EQ(remote_.find("pods", name_)["spec"]["volumes"][0]["secret"]["secretName"],
              remote_.all("secrets")[0]["metadata"]["name"]);
}

TEST_F(KubernetesProviderTest, A_missing_pull_secret_is_left_out_and_told) {
    start();
    ASSERT_TRUE(accepted(desired_pod({{"imagePullSecrets", Json::array({{{"name", "pull"}}})}})));
    EXPECT_FALSE(remote_.find("pods", name_)["spec"].contains("imagePullSecrets"));
    EXPECT_TRUE(observer_.wait_for([](const auto& seen) {
        return !seen.events.empty() && seen.events[0].reason == "FailedToRetrieveImagePullSecret";
    }));
}

TEST_F(KubernetesProviderTest, What_is_left_out_is_told_once_when_the_pod_is_made) {
    const DesiredPod pod = desired_pod(
        {{"volumes",
          Json::array(
              {{{"name", "kube-api-access-x"},
                {"projected", {{"sources", Json::array({{{"serviceAccountToken", {{"path", "t"}}}}})}}}}})}});
    ASSERT_TRUE(provider_.start(observer_));
    ASSERT_TRUE(accepted(pod));
    RecordingObserver second;  // outlives the provider's threads
    KubernetesProvider after_restart(provider_options(), client_, local_, clock_);
    ASSERT_TRUE(after_restart.start(second));
    ASSERT_TRUE(after_restart.ensure(pod, ctx()));
    ASSERT_EQ(observer_.seen().events.size(), 1U);
    EXPECT_EQ(observer_.seen().events[0].reason, "NotForwarded");
    EXPECT_TRUE(second.seen().events.empty());
}

TEST_F(KubernetesProviderTest, Quota_waits_with_its_reason_and_policy_refuses) {
    start();
    const auto answer = [&](const std::string& message) {
        remote_.set_fault([message](const kube::Request& r) -> std::optional<Result<kube::Response>> {
            if (r.method != "POST") return std::nullopt;
            return Result<kube::Response>(FakeRemote::status(403, "Forbidden", message));
        });
        return ensure();
    };
    auto quota = answer("pods \"x\" is forbidden: exceeded quota: q, requested: pods=1, used: pods=1");
    ASSERT_TRUE(quota);
    EXPECT_TRUE(std::holds_alternative<Blocked>(*quota));
    auto policy = answer("pods \"x\" is forbidden: violates PodSecurity \"baseline:latest\": privileged");
    ASSERT_TRUE(policy);
    EXPECT_TRUE(std::holds_alternative<Refused>(*policy));
}

TEST_F(KubernetesProviderTest, Grace_is_shortened_and_zero_is_sent_as_one) {
    start();
    ASSERT_TRUE(accepted());
    schedule();
    ASSERT_TRUE(provider_.remove(kPod, 30s, ctx()));
    ASSERT_TRUE(wait_for_pod([](const ObservedPod& p) { return p.removing; }));
    ASSERT_TRUE(provider_.remove(kPod, 30s, ctx()));
    EXPECT_EQ(remote_.calls("DELETE").size(), 1U) << "the same order again says nothing new";
    ASSERT_TRUE(provider_.remove(kPod, 5s, ctx()));
    EXPECT_EQ(remote_.find("pods", name_)["metadata"]["deletionGracePeriodSeconds"], 5);
    ASSERT_TRUE(provider_.remove(kPod, 0s, ctx()));
    EXPECT_EQ(remote_.find("pods", name_)["metadata"]["deletionGracePeriodSeconds"], 1);
}

TEST_F(KubernetesProviderTest, Deletes_carry_the_remote_uid) {
    start();
    ASSERT_TRUE(accepted());
    schedule();
    ASSERT_TRUE(provider_.remove(kPod, 30s, ctx()));
    for (const auto& request : remote_.requests()) {
        if (request.method != "DELETE") continue;
        EXPECT_EQ(Json::parse(request.body)["preconditions"]["uid"],
                  remote_.find("pods", name_)["metadata"]["uid"]);
    }
}

TEST_F(KubernetesProviderTest, Removing_what_is_not_there_succeeds_and_reports_gone) {
    start();
    ASSERT_TRUE(provider_.remove(kPod, 30s, ctx()));
    EXPECT_TRUE(wait_for_pod([](const ObservedPod& p) { return p.gone && p.id == kPod; }));
}

TEST_F(KubernetesProviderTest, Removing_while_the_remote_is_away_fails_and_reports_nothing) {
    start();
    remote_.set_fault([](const kube::Request&) -> std::optional<Result<kube::Response>> {
        return Result<kube::Response>(fail(ErrorKind::Unavailable, "connection refused"));
    });
    auto removed = provider_.remove(kPod, 30s, ctx());
    ASSERT_FALSE(removed);
    EXPECT_EQ(removed.error().kind, ErrorKind::Unavailable);
    EXPECT_TRUE(observer_.seen().pods.empty());
    EXPECT_FALSE(provider_.list(ctx())) << "never an empty list instead of an error";
}

TEST_F(KubernetesProviderTest, A_pod_deleted_by_force_over_there_is_reported_gone) {
    start();
    ASSERT_TRUE(accepted());
    schedule();
    ASSERT_TRUE(
        wait_for_pod([](const ObservedPod& p) { return string_at(p.status, {"phase"}) == "Running"; }));
    remote_.erase("pods", name_);  // no deletionTimestamp: the watch alone cannot tell
    EXPECT_TRUE(wait_for_pod([](const ObservedPod& p) { return p.gone; }));
}

TEST_F(KubernetesProviderTest, A_pod_that_lost_its_labels_is_not_gone_and_not_touched) {
    start();
    ASSERT_TRUE(accepted());
    schedule();
    ASSERT_TRUE(
        wait_for_pod([](const ObservedPod& p) { return string_at(p.status, {"phase"}) == "Running"; }));
    remote_.edit("pods", name_, [](Json& pod) { pod["metadata"]["labels"] = Json::object(); });
    ASSERT_TRUE(observer_.wait_for([](const auto& seen) {
        return !seen.events.empty() && seen.events.back().reason == "OwnerMarkLost";
    }));
    EXPECT_FALSE(observer_.seen().pods.back().gone);
    auto removed = provider_.remove(kPod, 1s, ctx());
    ASSERT_FALSE(removed);
    EXPECT_EQ(removed.error().kind, ErrorKind::Conflict);
    EXPECT_TRUE(remote_.calls("DELETE").empty());
}

TEST_F(KubernetesProviderTest, After_a_restart_pods_are_found_again) {
    remote_.put("pods", translate(desired_pod(), test_options()).pod);
    start();
    ASSERT_TRUE(wait_for_pod([](const ObservedPod& p) { return p.id == kPod && !p.gone; }));
    auto pods = provider_.list(ctx());
    ASSERT_TRUE(pods);
    ASSERT_EQ(pods->size(), 1U);
    EXPECT_EQ((*pods)[0].id, kPod);
    ASSERT_TRUE(accepted());
    EXPECT_EQ(posts(), 0U);
}

TEST_F(KubernetesProviderTest, Remote_events_are_told_of_the_local_pod_once_per_occurrence) {
    const auto event = [&](const std::string& reason, int count) {
        return Json{{"metadata", {{"name", "e-" + reason}, {"uid", "e-" + reason}}},
                    {"involvedObject", {{"kind", "Pod"}, {"name", name_}, {"uid", "remote-uid-1"}}},
                    {"type", "Warning"},
                    {"reason", reason},
                    {"count", count},
                    {"message", "pod " + name_ + ": no nodes"}};
    };
    remote_.put("events", event("Old", 1));
    start();
    ASSERT_TRUE(remote_.wait_for_watch("events"));
    ASSERT_TRUE(accepted());
    remote_.put("events", event("FailedScheduling", 1));
    ASSERT_TRUE(observer_.wait_for([](const auto& seen) { return seen.events.size() == 1; }));
    remote_.put("events", event("FailedScheduling", 1));
    remote_.put("events", event("Scheduled", 1));
    remote_.put("events", event("FailedScheduling", 2));
    ASSERT_TRUE(observer_.wait_for([](const auto& seen) { return seen.events.size() == 2; }));
    const auto seen = observer_.seen();
    for (const auto& told : seen.events) {
        EXPECT_EQ(told.reason, "FailedScheduling");
        EXPECT_EQ(told.message, "pod train-0: no nodes");
        EXPECT_EQ(told.pod, kPod);
    }
}

TEST_F(KubernetesProviderTest, Events_that_may_not_be_read_do_not_hinder_the_rest) {
    remote_.set_fault([](const kube::Request& r) -> std::optional<Result<kube::Response>> {
        if (r.path.find("/events") == std::string::npos) return std::nullopt;
        return Result<kube::Response>(FakeRemote::status(403, "Forbidden", "events is forbidden"));
    });
    start();
    EXPECT_TRUE(accepted());
    EXPECT_TRUE(wait_for_pod([](const ObservedPod& p) { return p.id == kPod; }));
    EXPECT_TRUE(observer_.seen().reachable.back().first);
}

TEST_F(KubernetesProviderTest, Losing_and_regaining_the_remote_is_told_with_the_reason) {
    std::atomic<bool> expired{true};
    remote_.set_fault([&](const kube::Request&) -> std::optional<Result<kube::Response>> {
        if (!expired) return std::nullopt;
        return Result<kube::Response>(FakeRemote::status(401, "Unauthorized", "Unauthorized"));
    });
    ASSERT_TRUE(provider_.start(observer_));
    ASSERT_TRUE(observer_.wait_for([](const auto& seen) { return !seen.reachable.empty(); }));
    EXPECT_FALSE(observer_.seen().reachable.front().first);
    EXPECT_NE(observer_.seen().reachable.front().second.find("credentials"), std::string::npos);
    expired = false;
    EXPECT_TRUE(observer_.wait_for([](const auto& seen) { return seen.reachable.back().first; }));
}

TEST_F(KubernetesProviderTest, Capacity_comes_from_the_quota_or_the_options) {
    start();
    auto fallback = provider_.capacity(ctx());
    ASSERT_TRUE(fallback);
    EXPECT_EQ(fallback->at("cpu"), "16");
    remote_.put("resourcequotas",
                {{"metadata", {{"name", "q"}}},
                 {"spec", {{"hard", {{"requests.cpu", "4"}, {"requests.nvidia.com/gpu", "2"}}}}}});
    auto capacity = provider_.capacity(ctx());
    ASSERT_TRUE(capacity);
    EXPECT_EQ(capacity->at("cpu"), "4");
    EXPECT_EQ(capacity->at("nvidia.com/gpu"), "2");
}

TEST_F(KubernetesProviderTest, A_change_of_the_running_pod_is_carried) {
    start();
    ASSERT_TRUE(accepted());
    DesiredPod changed = desired_pod();
    changed.pod["spec"]["containers"][0]["image"] = "busybox:2";
    changed.pod["metadata"]["labels"] = {{"new", "1"}};
    ASSERT_TRUE(provider_.update(changed, ctx()));
    const Json remote = remote_.find("pods", name_);
    EXPECT_EQ(remote["spec"]["containers"][0]["image"], "busybox:2");
    EXPECT_EQ(remote["metadata"]["labels"]["new"], "1");
    EXPECT_EQ(remote["metadata"]["labels"][kNodeLabel], "k8s.gpu");
    ASSERT_TRUE(provider_.update(changed, ctx()));
    EXPECT_EQ(remote_.calls("PATCH").size(), 1U);
}

TEST_F(KubernetesProviderTest, A_debug_container_is_added_with_what_it_names) {
    start();
    local_.set(LocalKind::Secret, "key", {{"data", {{"k", "dg=="}}}});
    ASSERT_TRUE(accepted());
    DesiredPod changed = desired_pod();
    changed.pod["spec"]["ephemeralContainers"] =
        Json::array({{{"name", "debug"},
                      {"image", "busybox"},
                      {"envFrom", Json::array({{{"secretRef", {{"name", "key"}}}}})}}});
    ASSERT_TRUE(provider_.update(changed, ctx()));
    EXPECT_EQ(remote_.find("pods", name_)["spec"]["ephemeralContainers"][0]["name"], "debug");
    EXPECT_EQ(remote_.all("secrets").size(), 1U);
    ASSERT_TRUE(provider_.update(changed, ctx()));
    EXPECT_EQ(remote_.calls("PATCH"),
              std::vector<std::string>{"/api/v1/namespaces/gpu/pods/" + name_ + "/ephemeralcontainers"});
}

TEST_F(KubernetesProviderTest, What_the_remote_cluster_cannot_change_does_not_hold_up_the_rest) {
    start();
    ASSERT_TRUE(accepted());
    remote_.set_fault([](const kube::Request& request) -> std::optional<Result<kube::Response>> {
        if (!request.path.ends_with("/resize")) return std::nullopt;
        return Result<kube::Response>(
            FakeRemote::status(404, "NotFound", "the server could not find the requested resource"));
    });
    DesiredPod changed = desired_pod();
    changed.pod["metadata"]["labels"] = {{"new", "1"}};
    changed.pod["spec"]["containers"][0]["resources"] = {{"requests", {{"cpu", "2"}}}};
    changed.pod["spec"]["ephemeralContainers"] = Json::array({{{"name", "debug"}, {"image", "busybox"}}});
    const auto updated = provider_.update(changed, ctx());
    ASSERT_FALSE(updated);
    EXPECT_EQ(updated.error().kind, ErrorKind::Unsupported);
    EXPECT_NE(updated.error().message.find("pods/resize"), std::string::npos) << updated.error().message;
    const Json remote = remote_.find("pods", name_);
    EXPECT_EQ(remote["metadata"]["labels"]["new"], "1");
    EXPECT_EQ(remote["spec"]["ephemeralContainers"][0]["name"], "debug");
}

TEST_F(KubernetesProviderTest, Logs_stream_as_they_come_and_errors_speak_of_the_local_pod) {
    struct Sink final : LogSink {
        Result<void> begin() override {
            begun = true;
            return {};
        }
        Result<void> write(std::string_view bytes) override {
            text += bytes;
            if (text == "full\n") return fail(ErrorKind::Cancelled, "reader left");
            return {};
        }
        bool begun = false;
        std::string text;
    };
    start();
    ASSERT_TRUE(accepted());
    const std::string path = "/api/v1/namespaces/gpu/pods/" + name_ + "/log";
    auto stream = remote_.scripted().stream_once("GET", path);
    stream->push("one\n");
    stream->push("two\n");
    stream->end();
    Sink sink;
    LogRequest request;
    request.pod = kPod;
    request.container = "main";
    ASSERT_TRUE(provider_.logs()->logs(request, sink, ctx()));
    EXPECT_EQ(sink.text, "one\ntwo\n");

    remote_.scripted().handle_once("GET", path, [&](const kube::Request&) -> Result<kube::Response> {
        return FakeRemote::status(
            400, "BadRequest",
            "container \"main\" in pod \"" + name_ + "\" is waiting to start: ContainerCreating");
    });
    Sink refused;
    auto waiting = provider_.logs()->logs(request, refused, ctx());
    ASSERT_FALSE(waiting);
    EXPECT_FALSE(refused.begun);
    EXPECT_EQ(waiting.error().message,
              "container \"main\" in pod \"train-0\" is waiting to start: ContainerCreating");

    auto endless = remote_.scripted().stream_once("GET", path);
    endless->push("full\n");
    Sink leaving;
    EXPECT_FALSE(provider_.logs()->logs(request, leaving, ctx()));
    EXPECT_TRUE(endless->cancelled());

    request.pod.uid = "unknown";
    Sink none;
    EXPECT_EQ(provider_.logs()->logs(request, none, ctx()).error().kind, ErrorKind::NotFound);
}

TEST_F(KubernetesProviderTest, Bad_options_stop_the_start) {
    for (const auto& spoil : std::vector<std::function<void(KubernetesProviderOptions&)>>{
             [](auto& o) { o.remote_namespace = ""; }, [](auto& o) { o.owner.cluster_uid = ""; },
             [](auto& o) { o.owner.node_name = ""; }, [](auto& o) { o.fallback_capacity["cpu"] = "many"; }}) {
        KubernetesProviderOptions options = provider_options();
        spoil(options);
        KubernetesProvider provider(options, client_, local_, clock_);
        auto started = provider.start(observer_);
        ASSERT_FALSE(started);
        EXPECT_EQ(started.error().kind, ErrorKind::Invalid);
    }
}

}  // namespace
}  // namespace k8sgpu::providers::kubernetes
