#include "kubelet_api/sessions.h"

namespace k8sgpu::kubelet_api {

void Session::Entry::stop(const std::string& why) {
    {
        auto first = reason.lock();
        if (first->empty()) *first = why;
    }
    soft.request_stop();
}

Session::Session(SessionRegistry& registry, std::shared_ptr<Entry> entry)
    : registry_(registry), entry_(std::move(entry)) {}

Session::~Session() {
    links_.clear();
    registry_.state_.lock()->entries.remove(entry_);
}

std::stop_token Session::token() const {
    return entry_->soft.get_token();
}

std::stop_source Session::source() const {
    return entry_->soft;
}

std::stop_token Session::kill_token() const {
    return entry_->hard.get_token();
}

std::string Session::reason() const {
    return *entry_->reason.lock();
}

void Session::request_stop(const std::string& reason) {
    entry_->stop(reason);
}

void Session::also_stop_with(std::stop_token other) {
    links_.emplace_back(std::move(other), [entry = entry_] { entry->soft.request_stop(); });
}

std::unique_ptr<Session> SessionRegistry::enter(std::string pod_uid, PodGone pod_gone) {
    auto entry = std::make_shared<Session::Entry>();
    entry->pod_gone = pod_gone;
    entry->pod_uid = std::move(pod_uid);
    std::optional<std::string> stopped;
    bool killed = false;
    {
        auto state = state_.lock();
        state->entries.push_back(entry);
        stopped = state->stopped;
        killed = state->killed;
    }
    if (stopped) entry->stop(*stopped);
    if (killed) entry->hard.request_stop();
    return std::unique_ptr<Session>(new Session(*this, std::move(entry)));
}

// Stop callbacks run on the stopping thread, hence never under the lock.
bool SessionRegistry::stop_pod(std::string_view pod_uid, const std::string& reason) {
    bool draining = false;
    for (const auto& entry : entries()) {
        if (pod_uid.empty() || entry->pod_uid != pod_uid) continue;
        if (entry->pod_gone == PodGone::LetsItDrain) {
            draining = true;
        } else {
            entry->stop(reason);
        }
    }
    return draining;
}

void SessionRegistry::stop_draining(std::string_view pod_uid, const std::string& reason) {
    for (const auto& entry : entries()) {
        if (entry->pod_uid == pod_uid && entry->pod_gone == PodGone::LetsItDrain) entry->stop(reason);
    }
}

void SessionRegistry::stop_all(const std::string& reason) {
    state_.lock()->stopped = reason;
    for (const auto& entry : entries()) entry->stop(reason);
}

void SessionRegistry::kill_all() {
    state_.lock()->killed = true;
    for (const auto& entry : entries()) {
        entry->soft.request_stop();
        entry->hard.request_stop();
    }
}

}  // namespace k8sgpu::kubelet_api
