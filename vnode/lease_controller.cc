#include "vnode/lease_controller.h"

#include <algorithm>

#include "common/encoding.h"

namespace k8sgpu::vnode {
namespace {

constexpr int kLeaseSeconds = 40;
constexpr Duration kRenewEvery{10'000};
constexpr Duration kNodeMissing{500};

}  // namespace

LeaseController::LeaseController(std::string node_name, std::uint32_t seed)
    : node_name_(std::move(node_name)), backoff_({Duration(200), Duration(7'000), 2.0, 0.1}, seed) {}

std::optional<LeaseCall> LeaseController::next(Times now, const std::string& node_uid) {
    if (node_uid.empty()) {
        wakeup_ = now.now + kNodeMissing;
        return std::nullopt;
    }
    if (now.now < not_before_) {
        wakeup_ = not_before_;
        return std::nullopt;
    }
    if (absent_) {
        const Json empty = {{"apiVersion", "coordination.k8s.io/v1"},
                            {"kind", "Lease"},
                            {"metadata", {{"name", node_name_}, {"namespace", "kube-node-lease"}}}};
        return CreateLease{filled(empty, now, node_uid)};
    }
    if (!lease_) return FetchLease{};
    return RenewLease{filled(*lease_, now, node_uid)};
}

std::optional<LeaseCall> LeaseController::last_renewal(Times now, const std::string& node_uid) const {
    if (!lease_ || node_uid.empty()) return std::nullopt;
    return RenewLease{filled(*lease_, now, node_uid)};
}

Json LeaseController::filled(Json lease, Times now, const std::string& node_uid) const {
    lease["spec"]["holderIdentity"] = node_name_;
    lease["spec"]["leaseDurationSeconds"] = kLeaseSeconds;
    lease["spec"]["renewTime"] = rfc3339_micros(now.wall);
    // A Node that came back has a new UID: with the old owner the garbage collector would take the lease
    // away.
    lease["metadata"]["ownerReferences"] =
        Json::array({{{"apiVersion", "v1"}, {"kind", "Node"}, {"name", node_name_}, {"uid", node_uid}}});
    return lease;
}

void LeaseController::on_succeeded(Json lease, const LeaseCall& call, Times now) {
    lease_ = std::move(lease);
    absent_ = false;
    backoff_.reset();
    if (std::holds_alternative<FetchLease>(call)) return;  // renew it now
    renewed_at_ = now.now;
    not_before_ = now.now + kRenewEvery;
}

void LeaseController::on_failed(const LeaseCall& call, const Error& error, Times now) {
    (void)call;
    lease_.reset();  // fetch before the next attempt: a conflict means that somebody wrote it
    absent_ = error.kind == ErrorKind::NotFound;
    if (absent_) return;
    Duration delay = backoff_.next();
    if (error.retry_after) delay = std::max(delay, *error.retry_after);
    not_before_ = now.now + delay;
}

}  // namespace k8sgpu::vnode
