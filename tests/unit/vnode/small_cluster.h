// A small deterministic world around the real PodController: an API server and a backend in memory that carry
// out its intents one by one, so that a test can fail, delay or lose any of them and restart the agent
// between two steps.
#pragma once

#include <deque>
#include <map>
#include <string>
#include <vector>

#include "kube/object.h"
#include "tests/simulation/objects.h"
#include "vnode/pod_controller.h"

namespace k8sgpu::vnode::testing {

using simulation::make_pod;

inline Json running_status() {
    return {{"phase", "Running"},
            {"podIP", "10.9.0.7"},
            {"containerStatuses",
             Json::array({{{"name", "main"},
                           {"ready", true},
                           {"started", true},
                           {"restartCount", 0},
                           {"state", {{"running", {{"startedAt", "2026-01-01T00:00:00Z"}}}}}}})}};
}

inline Json ended_status(int code) {
    return {
        {"phase", code == 0 ? "Succeeded" : "Failed"},
        {"containerStatuses",
         Json::array(
             {{{"name", "main"},
               {"ready", false},
               {"started", false},
               {"restartCount", 0},
               {"state",
                {{"terminated", {{"exitCode", code}, {"reason", code == 0 ? "Completed" : "Error"}}}}}}})}};
}

class SmallCluster {
  public:
    SmallCluster() { restart_agent(); }

    // ---- what a test does
    // -----------------------------------------------------------------------------------------
    void create_pod(Json pod) {
        const PodId id = kube::pod_id(pod);
        api[id.uid] = std::move(pod);
        feed(LocalApplied{snapshot(id.uid)});
    }
    // kubectl delete: marks; the object goes when the node says so.
    void delete_pod(const std::string& uid, int grace = 30) {
        api[uid]["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:10Z";
        api[uid]["metadata"]["deletionGracePeriodSeconds"] = grace;
        touch(uid);
        feed(LocalApplied{snapshot(uid)});
    }
    // A change by others that no watch has delivered yet.
    void touch(const std::string& uid) {
        api[uid]["metadata"]["resourceVersion"] = std::to_string(++version_);
    }
    void force_delete_pod(const std::string& uid) {
        const auto last = snapshot(uid);
        api.erase(uid);
        feed(LocalDeleted{last});
    }
    void report(const std::string& uid, Json status) {
        backend[uid].status = std::move(status);
        backend[uid].may_be_running = !is_terminal_phase(string_at(backend[uid].status, {"phase"}));
        feed(BackendChanged{backend[uid]});
    }
    // Somebody else, or the end of a removal.
    void backend_pod_vanishes(const std::string& uid) {
        providers::ObservedPod last = backend[uid];
        last.gone = true;
        last.may_be_running = false;
        backend.erase(uid);
        feed(BackendChanged{last});
    }
    // kill -9 and a new process: memory is lost, what was in flight may or may not have happened.
    void restart_agent() {
        queue.clear();
        controller.emplace(PodControllerOptions{"k8s.gpu", "test", "192.0.2.10", PodIpPolicy::Remote},
                           [this](const providers::DesiredPod&) { return refuse; });
    }
    void sync() {
        std::vector<kube::ObjectPtr> pods;
        for (const auto& [uid, pod] : api) pods.push_back(std::make_shared<const Json>(pod));
        feed(LocalListed{pods});
        sweep();
    }
    void sweep() {
        std::vector<providers::ObservedPod> pods;
        for (const auto& [uid, pod] : backend) pods.push_back(pod);
        feed(BackendListed{pods, times.now});
    }
    void advance(Duration by) {
        times.now += by;
        times.wall += by;
        feed(Tick{});
    }

    void feed(const PodEvent& event) {
        for (auto& intent : controller->step(event, times)) queue.push_back(std::move(intent));
    }

    // Carries out everything, in order, until nothing is left.
    void settle() {
        int budget = 1000;
        while (!queue.empty() && budget-- > 0) step_once();
        if (budget <= 0) failures.push_back("did not settle");
    }
    void step_once() {
        const PodIntent intent = std::move(queue.front());
        queue.pop_front();
        std::visit([this](const auto& i) { carry_out(i); }, intent);
    }

    std::string phase(const std::string& uid) { return string_at(api[uid], {"status", "phase"}); }
    std::string forwarded(const std::string& uid) {
        return string_at(kube::find_condition(api[uid], kForwardedCondition), {"status"});
    }

    // ---- the world
    // ------------------------------------------------------------------------------------------------
    std::map<std::string, Json> api;
    std::map<std::string, providers::ObservedPod> backend;
    std::deque<PodIntent> queue;
    std::optional<PodController> controller;
    Times times{SteadyTime(std::chrono::hours(1)), WallTime(std::chrono::seconds(1'767'225'600))};

    // Faults and policies that a test sets.
    std::optional<providers::Refused> refuse;
    std::deque<Result<providers::EnsureOutcome>> ensure_answers;  // before the default
    std::deque<Error> status_errors;
    bool backend_ends_at_once = true;  // Remove ends the copy immediately

    // What happened.
    std::map<std::string, int> creations;  // by UID
    std::map<std::string, int> updates;    // by UID
    std::vector<std::pair<std::string, int>> removals;
    std::vector<std::string> events;
    std::vector<std::string> failures;
    int status_writes = 0;

  private:
    kube::ObjectPtr snapshot(const std::string& uid) { return std::make_shared<const Json>(api[uid]); }

    void carry_out(const DoEnsure& intent) {
        if (!ensure_answers.empty()) {
            auto answer = ensure_answers.front();
            ensure_answers.pop_front();
            if (!answer || !std::holds_alternative<providers::Accepted>(*answer)) {
                feed(WorkDone{intent.id, EnsureResult{answer, intent.digest}});
                return;
            }
        }
        if (!backend.contains(intent.id.uid)) {
            ++creations[intent.id.uid];
            backend[intent.id.uid] = {intent.id, {{"phase", "Pending"}}, true, false,
                                      false,     "b-" + intent.id.uid};
        }
        feed(WorkDone{intent.id,
                      EnsureResult{providers::EnsureOutcome(providers::Accepted{}), intent.digest}});
        feed(BackendChanged{backend[intent.id.uid]});
    }
    void carry_out(const DoUpdate& intent) {
        ++updates[intent.id.uid];
        feed(WorkDone{intent.id, UpdateResult{{}, intent.digest}});
    }
    void carry_out(const DoRemove& intent) {
        removals.emplace_back(intent.id.uid, static_cast<int>(intent.grace.count()));
        feed(WorkDone{intent.id, RemoveResult{{}, intent.grace}});
        if (!backend.contains(intent.id.uid)) {
            feed(BackendChanged{{intent.id, Json::object(), false, true, true, ""}});
        } else if (backend_ends_at_once) {
            backend_pod_vanishes(intent.id.uid);
        } else {
            backend[intent.id.uid].removing = true;
            feed(BackendChanged{backend[intent.id.uid]});
        }
    }
    void carry_out(const DoObserve& intent) {
        const auto found = backend.find(intent.id.uid);
        const providers::ObservedPod absent{intent.id, Json::object(), false, false, true, ""};
        feed(WorkDone{intent.id, ObserveResult{found == backend.end() ? absent : found->second}});
    }
    void carry_out(const DoConfirmAbsent& intent) {
        feed(WorkDone{intent.id, ConfirmResult{!api.contains(intent.id.uid)}});
    }
    void carry_out(const WriteStatus& intent) {
        ++status_writes;
        if (!status_errors.empty()) {
            const Error error = status_errors.front();
            status_errors.pop_front();
            feed(StatusDone{intent.id, false, fail(error)});
            return;
        }
        if (!api.contains(intent.id.uid)) {
            feed(StatusDone{intent.id, false, fail(ErrorKind::NotFound, "pods not found")});
            return;
        }
        const std::string version = string_at(intent.patch, {"metadata", "resourceVersion"});
        if (version != kube::resource_version_of(api[intent.id.uid])) {
            feed(StatusDone{intent.id, false, fail(ErrorKind::Conflict, "the object has been modified")});
            return;
        }
        simulation::strategic_merge(api[intent.id.uid]["status"], intent.patch.at("status"));
        touch(intent.id.uid);
        feed(StatusDone{intent.id, false, api[intent.id.uid]});
    }
    void carry_out(const DeleteLocal& intent) {
        const auto last = snapshot(intent.id.uid);
        if (!is_terminal_phase(phase(intent.id.uid)))
            failures.push_back("deleted before terminal: " + intent.id.uid);
        if (backend.contains(intent.id.uid) && backend[intent.id.uid].may_be_running) {
            failures.push_back("deleted while running: " + intent.id.uid);
        }
        api.erase(intent.id.uid);
        feed(StatusDone{intent.id, true, Json()});
        feed(LocalDeleted{last});
    }
    void carry_out(const RecordEvent& intent) { events.push_back(intent.reason); }

    int version_ = 1;
};

}  // namespace k8sgpu::vnode::testing
