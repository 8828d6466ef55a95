#include "vnode/node_keeper.h"

#include <algorithm>

#include "common/log.h"

namespace k8sgpu::vnode {
namespace {

constexpr Duration kCallTimeout{10'000};
constexpr Duration kLoopAtLeast{5'000};
// Renewals must fail fast: four of them fit into one lease.
constexpr Duration kLeaseTimeout{8'000};
constexpr Duration kLastRenewal{2'000};

kube::ReflectorOptions watch_options(const std::string& node_name) {
    kube::ReflectorOptions options;
    options.name = "node";
    options.resource = kube::resources::kNodes;
    options.field_selector = "metadata.name=" + node_name;
    return options;
}

}  // namespace

NodeKeeper::NodeKeeper(NodeConfig config, NodeFacts facts, Clock& clock, kube::ApiClient& client,
                       std::uint32_t seed, NodeController::InUse in_use)
    : config_(config),
      clock_(clock),
      client_(client),
      node_(std::in_place, config, seed, std::move(in_use)),
      node_tick_(std::in_place, clock.now()),
      lease_tick_(std::in_place, clock.now()),
      lease_(config.name, seed),
      watch_(client, clock, watch_options(config.name), *this) {
    node_.lock()->set_facts(std::move(facts));
}

void NodeKeeper::start() {
    watch_.start();
    node_thread_ = Thread("node", [this](std::stop_token stop) { run_node(std::move(stop)); });
    lease_thread_ = Thread("lease", [this](std::stop_token stop) { run_lease(std::move(stop)); });
}

void NodeKeeper::stop() {
    watch_.stop();
    lease_thread_.stop();
    node_thread_.stop();
}

void NodeKeeper::wake() {
    *woken_.lock() = true;
    wake_.notify_all();
}

void NodeKeeper::update_facts(const std::function<void(NodeFacts&)>& change) {
    {
        auto node = node_.lock();
        NodeFacts facts = node->facts();
        change(facts);
        node->set_facts(std::move(facts));
    }
    wake();
}

void NodeKeeper::on_listed(std::vector<kube::ObjectPtr> objects) {
    if (objects.empty()) {
        node_.lock()->on_absent();
    } else {
        node_.lock()->on_node(objects.front());
    }
    wake();
}

void NodeKeeper::on_applied(kube::ObjectPtr object) {
    node_.lock()->on_node(std::move(object));
    wake();
}

void NodeKeeper::on_deleted(kube::ObjectPtr) {
    node_.lock()->on_absent();
    wake();
}

void NodeKeeper::run_node(std::stop_token stop) {
    std::string told;
    while (!stop.stop_requested()) {
        *node_tick_.lock() = clock_.now();
        *woken_.lock() = false;
        const std::optional<NodeCall> call = node_.lock()->next(times());
        if (!call) {
            const std::string problem = node_.lock()->problem();
            if (!problem.empty() && problem != told) log().error("{}", problem);
            told = problem;
            const SteadyTime until = std::min(node_.lock()->next_wakeup(), clock_.now() + kLoopAtLeast);
            auto woken = woken_.lock();
            woken.wait_until(clock_, wake_, until, stop, [&] { return *woken; });
            continue;
        }
        auto answer = make(*call, CallContext::with_timeout(clock_, kCallTimeout, stop));
        auto node = node_.lock();
        if (answer) {
            node->on_node(std::make_shared<const Json>(std::move(*answer)));
            node->on_succeeded(*call, times());
        } else if (answer.error().kind != ErrorKind::Cancelled) {
            node->on_failed(*call, answer.error(), times());
        }
    }
}

Result<Json> NodeKeeper::make(const NodeCall& call, const CallContext& ctx) {
    using kube::resources::kNodes;
    if (const auto* create = std::get_if<CreateNode>(&call))
        return client_.create(kNodes, "", create->node, ctx);
    if (const auto* patch = std::get_if<PatchNode>(&call)) {
        return client_.patch(kNodes, "", config_.name, kube::PatchType::StrategicMerge, patch->patch, ctx,
                             patch->subresource);
    }
    return client_.get(kNodes, "", config_.name, ctx);
}

void NodeKeeper::run_lease(std::stop_token stop) {
    bool failing = false;
    while (!stop.stop_requested()) {
        *lease_tick_.lock() = clock_.now();
        const auto call = lease_.next(times(), node_uid());
        if (!call) {
            clock_.sleep_until(std::min(lease_.next_wakeup(), clock_.now() + kLoopAtLeast), stop);
            continue;
        }
        auto answer = make(*call, CallContext::with_timeout(clock_, kLeaseTimeout, stop));
        if (answer) {
            if (failing) log().info("renewing the node lease again");
            failing = false;
            lease_.on_succeeded(std::move(*answer), *call, times());
            *renewed_at_.lock() = lease_.renewed_at();
        } else if (answer.error().kind != ErrorKind::Cancelled) {
            if (!failing && answer.error().kind != ErrorKind::NotFound) {
                log().warn("node lease: {}", answer.error().message);
                failing = true;
            }
            lease_.on_failed(*call, answer.error(), times());
        }
    }
    // A last renewal, so that the one who comes after us has the whole lease before anybody misses the node.
    if (const auto last = lease_.last_renewal(times(), node_uid())) {
        (void)make(*last, CallContext::with_timeout(clock_, kLastRenewal, {}));
    }
}

Result<Json> NodeKeeper::make(const LeaseCall& call, const CallContext& ctx) {
    using kube::resources::kLeases;
    static constexpr std::string_view kNamespace = "kube-node-lease";
    if (const auto* create = std::get_if<CreateLease>(&call))
        return client_.create(kLeases, kNamespace, create->lease, ctx);
    if (const auto* renew = std::get_if<RenewLease>(&call)) {
        return client_.replace(kLeases, kNamespace, config_.name, renew->lease, ctx);
    }
    return client_.get(kLeases, kNamespace, config_.name, ctx);
}

}  // namespace k8sgpu::vnode
