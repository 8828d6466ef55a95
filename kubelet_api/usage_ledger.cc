#include "kubelet_api/usage_ledger.h"

namespace k8sgpu::kubelet_api {

void UsageLedger::take(const std::string& pod_uid, const std::string& container,
                       std::optional<WallTime> start, std::uint64_t counter) {
    Container& known = pods_[pod_uid][container];
    const bool same_run = known.start && start && *known.start == *start;
    const bool other_run = known.start && start && *known.start != *start;
    // An older reading of the same run, overtaken by another request's.
    if (same_run && counter < known.counter) return;
    if (other_run || counter < known.counter) known.ended += known.counter;
    known.counter = counter;
    if (start) known.start = start;
}

std::optional<std::uint64_t> UsageLedger::pod_total(const std::string& pod_uid) const {
    const auto found = pods_.find(pod_uid);
    if (found == pods_.end()) return std::nullopt;
    return sum(found->second);
}

void UsageLedger::keep_only(const std::set<std::string>& pod_uids) {
    for (auto it = pods_.begin(); it != pods_.end();) {
        if (pod_uids.count(it->first) != 0) {
            ++it;
            continue;
        }
        gone_ += sum(it->second);
        it = pods_.erase(it);
    }
}

std::uint64_t UsageLedger::total() const {
    std::uint64_t all = gone_;
    for (const auto& [uid, pod] : pods_) all += sum(pod);
    return all;
}

std::uint64_t UsageLedger::sum(const Pod& pod) {
    std::uint64_t all = 0;
    for (const auto& [name, container] : pod) all += container.ended + container.counter;
    return all;
}

}  // namespace k8sgpu::kubelet_api
