#include "tests/simulation/world.h"

#include "tests/simulation/objects.h"
#include "vnode/pod_record.h"

namespace k8sgpu::simulation {
namespace {

constexpr const char* kJobFinalizer = "batch.kubernetes.io/job-tracking";
constexpr const char* kJobLabel = "job";
// Within this much after the last fault everything is settled: the longest back-off, two sweeps, the longest
// request that was still under way, a Job's retries.
constexpr Duration kSettleWithin{600'000};
constexpr Duration kStaySettled{70'000};
constexpr int kJobRetries = 4;

struct Job {
    std::string name;
    int completions = 1;
    int succeeded = 0;
    int failed = 0;
};

struct Cluster {
    std::string name;
    std::unique_ptr<LocalApi> api;
    std::unique_ptr<Link> local_link;
    std::unique_ptr<Link> remote_link;
    std::unique_ptr<Agent> agent;
    std::vector<Job> jobs;
    std::vector<std::string> stateful;  // names that are always wanted
};

class World {
  public:
    explicit World(const Options& options)
        : options_(options), chance_(options.seed), judge_(timeline_), tenant_(timeline_, judge_) {
        timeline_.keep_lines(options.keep_lines);
        trouble_ = chance_.one_of<double>({0.0, 0.05, 0.15, 0.4});
        const int clusters = chance_.happens(0.3) ? 2 : 1;
        for (int i = 0; i < clusters; ++i) add_cluster(fmt::format("c{}", i + 1));
    }

    Outcome run() {
        const Duration chaos = chance_.between(Duration(20'000), Duration(180'000));
        for (auto& cluster : clusters_) populate(*cluster);
        repeat(Duration(2'000), Duration(20'000), [this] { stranger(); });
        while (timeline_.elapsed() < chaos && judge_.violations().empty()) timeline_.step();
        if (judge_.violations().empty()) calm_down();
        return {timeline_.steps(), timeline_.hash(), judge_.violations(), timeline_.last_lines(),
                judge_.counts()};
    }

  private:
    void add_cluster(const std::string& name) {
        auto cluster = std::make_unique<Cluster>();
        cluster->name = name;
        cluster->api = std::make_unique<LocalApi>(timeline_, judge_);
        cluster->local_link = std::make_unique<Link>(timeline_, chance_, name + " local");
        cluster->remote_link = std::make_unique<Link>(timeline_, chance_, name + " remote");
        for (Link* link : {cluster->local_link.get(), cluster->remote_link.get()})
            link->set_weather({trouble_, chance_.happens(0.5) ? 0.02 : 0.1});
        AgentOptions agent;
        agent.cluster = name;
        agent.with_node = chance_.happens(0.125);
        agent.breakage = options_.breakage;
        agent.seed = static_cast<std::uint32_t>(options_.seed);
        cluster->agent = std::make_unique<Agent>(agent, timeline_, chance_, *cluster->api,
                                                 *cluster->local_link, tenant_, *cluster->remote_link);
        clusters_.push_back(std::move(cluster));
    }

    void populate(Cluster& cluster) {
        const auto jobs = chance_.between(0, 2);
        for (std::int64_t i = 0; i < jobs; ++i)
            cluster.jobs.push_back({fmt::format("job{}", i), static_cast<int>(chance_.between(1, 3)), 0, 0});
        const auto sets = chance_.between(1, 3);
        for (std::int64_t i = 0; i < sets; ++i) cluster.stateful.push_back(fmt::format("web-{}", i));
        cluster.agent->start();
        for (Job& job : cluster.jobs)
            always(Duration(500), Duration(4'000), [this, &cluster, &job] { reconcile(cluster, job); });
        for (const std::string& name : cluster.stateful)
            always(Duration(500), Duration(4'000), [this, &cluster, name] { keep(cluster, name); });
        repeat(Duration(1'000), Duration(15'000), [this, &cluster] { user(cluster); });
        const bool crashes = chance_.happens(0.8);
        if (crashes) {
            const Duration longest = chance_.between(Duration(5'000), Duration(60'000));
            repeat(Duration(500), longest, [this, &cluster] { crash(cluster); });
        }
        if (chance_.happens(0.7)) {
            repeat(Duration(3'000), Duration(40'000), [this, &cluster] { cut(cluster); });
        }
    }

    // Again and again until the faults end; or for ever.
    void repeat(Duration low, Duration high, std::function<void()> action) {
        timeline_.after(chance_.between(low, high), [this, low, high, action = std::move(action)] {
            if (calm_) return;
            action();
            repeat(low, high, action);
        });
    }
    void always(Duration low, Duration high, std::function<void()> action) {
        timeline_.after(chance_.between(low, high), [this, low, high, action = std::move(action)] {
            action();
            always(low, high, action);
        });
    }

    // ---- controllers of the local cluster
    Json new_pod(const std::string& name) {
        Json pod = make_pod(name, fmt::format("u{}", ++uids_));
        pod["spec"]["terminationGracePeriodSeconds"] = chance_.one_of<int>({1, 5, 30});
        const auto annotate = [&](const char* key, const std::string& value) {
            pod["metadata"]["annotations"][std::string(providers::simulated::kAnnotationDomain) + key] =
                value;
        };
        annotate("start-after", fmt::format("{}ms", chance_.between(0, 5'000)));
        annotate("stop-after", fmt::format("{}ms", chance_.one_of<int>({0, 500, 4'000, 60'000})));
        return pod;
    }

    void reconcile(Cluster& cluster, Job& job) {
        int active = 0;
        std::vector<std::string> ended;
        for (const auto& [uid, pod] : cluster.api->pods()) {
            if (kube::label_of(*pod, kJobLabel) != job.name) continue;
            const bool terminal = vnode::is_terminal_phase(string_at(*pod, {"status", "phase"}));
            if (!terminal && !kube::is_deleting(*pod)) ++active;
            if (terminal && !array_at(*pod, {"metadata", "finalizers"}).empty()) ended.push_back(uid);
        }
        for (const std::string& uid : ended) {
            const auto pod = cluster.api->pod(uid);
            const bool success = string_at(*pod, {"status", "phase"}) == "Succeeded";
            ++(success ? job.succeeded : job.failed);
            judge_.completion_counted(uid, success);
            timeline_.trace("{} {} counts {}: {}", cluster.name, job.name, uid, success);
            cluster.api->edit_pod(uid, [](Json& p) { p["metadata"].erase("finalizers"); });
        }
        if (job.failed > kJobRetries || job.succeeded + active >= job.completions) return;
        Json pod = new_pod(fmt::format("{}-{}", job.name, uids_ + 1));
        pod["metadata"]["labels"][kJobLabel] = job.name;
        pod["metadata"]["finalizers"] = Json::array({kJobFinalizer});
        pod["spec"]["restartPolicy"] = "Never";
        const std::string domain(providers::simulated::kAnnotationDomain);
        pod["metadata"]["annotations"][domain + "run-for"] = fmt::format("{}ms", chance_.between(0, 20'000));
        if (chance_.happens(0.2)) pod["metadata"]["annotations"][domain + "exit-code"] = "1";
        create(cluster, std::move(pod));
    }

    void keep(Cluster& cluster, const std::string& name) {
        const auto pod = cluster.api->pod_named("default", name);
        if (pod != nullptr) {
            if (vnode::is_terminal_phase(string_at(*pod, {"status", "phase"})) && !kube::is_deleting(*pod))
                (void)cluster.api->delete_pod("default", name, kube::uid_of(*pod), std::nullopt, "");
            return;
        }
        Json made = new_pod(name);
        const std::string domain(providers::simulated::kAnnotationDomain);
        if (chance_.happens(0.15)) {
            made["metadata"]["annotations"][domain + "run-for"] = "3s";
            made["spec"]["restartPolicy"] = chance_.happens(0.5) ? "Always" : "OnFailure";
        }
        if (chance_.happens(0.02)) made["metadata"]["annotations"][domain + "exit-code"] = "many";
        create(cluster, std::move(made));
    }

    void create(Cluster& cluster, Json pod) {
        timeline_.trace("{} creates {} as {}", cluster.name, kube::name_of(pod), kube::uid_of(pod));
        (void)cluster.api->create_pod(std::move(pod));
    }

    // ---- people and accidents
    void user(Cluster& cluster) {
        if (cluster.api->pods().empty()) return;
        std::vector<kube::ObjectPtr> pods;
        for (const auto& [uid, pod] : cluster.api->pods()) pods.push_back(pod);
        const auto pod = chance_.one_of(pods);
        const std::string uid = kube::uid_of(*pod);
        if (chance_.happens(0.3)) {
            timeline_.trace("{}: somebody labels {}", cluster.name, uid);
            cluster.api->edit_pod(uid, [&](Json& p) {
                p["metadata"]["labels"]["touched"] = std::to_string(timeline_.steps());
            });
            return;
        }
        const auto grace = chance_.one_of<std::optional<int>>({std::nullopt, 0, 1, 10});
        timeline_.trace("{}: somebody deletes {} with grace {}", cluster.name, uid, grace.value_or(-1));
        (void)cluster.api->delete_pod("default", kube::name_of(*pod), uid, grace, "");
        if (chance_.happens(0.1)) cluster.api->delete_other("Node", "k8s.gpu");
    }

    void crash(Cluster& cluster) {
        cluster.agent->crash();
        timeline_.after(chance_.between(Duration(10), Duration(20'000)),
                        [&cluster] { cluster.agent->start(); });
    }

    void cut(Cluster& cluster) {
        switch (chance_.between(0, 4)) {
            case 0:
                return cluster.agent->cut_local_watch(false);
            case 1:
                return cluster.agent->cut_remote_watch(false);
            case 2:
                cluster.api->compact();
                tenant_.compact();
                cluster.agent->cut_local_watch(true);
                return cluster.agent->cut_remote_watch(true);
            default: {
                Link& link = chance_.happens(0.5) ? *cluster.local_link : *cluster.remote_link;
                link.set_up(false);
                timeline_.after(chance_.between(Duration(100), Duration(90'000)),
                                [&link] { link.set_up(true); });
            }
        }
    }

    void stranger() {
        if (chance_.happens(0.1))
            timeline_.jump_wall(chance_.between(Duration(-7'200'000), Duration(7'200'000)));
        if (chance_.happens(0.2))
            return tenant_.create_foreign(fmt::format("foreign-{}", chance_.between(1, 3)));
        if (!chance_.happens(0.5)) return;
        std::vector<std::string> names;
        for (const auto& [name, copy] : tenant_.copies()) {
            if (copy.id) names.push_back(name);
        }
        if (names.empty()) return;
        tenant_.remove_by_others(chance_.one_of(names), chance_.happens(0.5));
    }

    // ---- the end
    void calm_down() {
        timeline_.trace("the faults end");
        calm_ = true;
        for (auto& cluster : clusters_) {
            for (Link* link : {cluster->local_link.get(), cluster->remote_link.get()}) {
                link->set_weather({0, 0});
                link->set_up(true);
            }
            cluster->agent->start();
        }
        if (!settle(kSettleWithin)) return;
        const SteadyTime until = timeline_.now() + kStaySettled;
        int writes = 0;
        for (auto& cluster : clusters_) writes -= cluster->api->status_writes();
        while (timeline_.now() < until && judge_.violations().empty()) timeline_.step();
        for (auto& cluster : clusters_) writes += cluster->api->status_writes();
        if (writes > 100) judge_.blame(fmt::format("{} status writes in a minute at rest", writes));
        settle(Duration(60'000));
    }

    bool settle(Duration within) {
        const SteadyTime until = timeline_.now() + within;
        std::string reason = unsettled();
        while (!reason.empty() && judge_.violations().empty()) {
            if (timeline_.now() > until) {
                judge_.blame("not settled in time: " + reason);
                return false;
            }
            timeline_.step();
            reason = unsettled();
        }
        return judge_.violations().empty();
    }

    // Why the world is not as it should be; empty when it is.
    std::string unsettled() const {
        for (const auto& cluster : clusters_) {
            if (std::string reason = unsettled(*cluster); !reason.empty())
                return cluster->name + ": " + reason;
        }
        return "";
    }
    std::string unsettled(const Cluster& cluster) const {
        for (const auto& [uid, pod] : cluster.api->pods()) {
            if (kube::is_deleting(*pod)) return uid + " is still being deleted";
            if (kube::find_condition(*pod, vnode::kForwardedCondition).is_null())
                return uid + " has no status";
            const std::string phase = string_at(*pod, {"status", "phase"});
            const auto copy =
                tenant_.copies().find(providers::kubernetes::remote_pod_name(kube::pod_id(*pod)));
            const bool there = copy != tenant_.copies().end();
            if (vnode::is_terminal_phase(phase)) {
                if (there && copy->second.may_be_running) return uid + " is terminal and its copy runs";
                continue;
            }
            if (!there) return uid + " has no copy";
            if (string_at(copy->second.object, {"status", "phase"}) != phase)
                return uid + " has another phase than its copy";
        }
        for (const auto& [name, copy] : tenant_.copies()) {
            if (!copy.id || copy.owner != cluster.name) continue;
            if (cluster.api->pod(copy.id->uid) == nullptr) return name + " is an orphan";
        }
        if (cluster.agent->with_node()) {
            if (!cluster.agent->registered()) return "the node is not registered";
            const auto renewed = cluster.agent->lease_renewed_at();
            if (!renewed || timeline_.now() - *renewed > std::chrono::seconds(40)) return "the lease is old";
        }
        return "";
    }

    const Options options_;
    Timeline timeline_;
    Chance chance_;
    Judge judge_;
    Tenant tenant_;
    std::vector<std::unique_ptr<Cluster>> clusters_;
    double trouble_ = 0;
    bool calm_ = false;
    int uids_ = 0;
};

}  // namespace

Outcome simulate(const Options& options) {
    return World(options).run();
}

}  // namespace k8sgpu::simulation
