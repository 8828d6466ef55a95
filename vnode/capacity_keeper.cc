#include "vnode/capacity_keeper.h"

#include "common/log.h"
#include "kube/quantity.h"

namespace k8sgpu::vnode {
namespace {

constexpr Duration kPollEvery{30'000};
constexpr Duration kCallTimeout{15'000};

const Capacity& defaults() {
    static const Capacity values = {
        {"cpu", "64"}, {"memory", "256Gi"}, {"pods", "110"}, {"ephemeral-storage", "512Gi"}};
    return values;
}

}  // namespace

Capacity merge_capacity(const Capacity& offered, const Capacity& configured,
                        std::vector<std::string>& defaulted) {
    Capacity merged = offered;
    for (const auto& [resource, quantity] : configured) merged[resource] = quantity;
    for (const auto& [resource, quantity] : defaults()) {
        if (merged.try_emplace(resource, quantity).second) defaulted.push_back(resource);
    }
    for (auto& [resource, quantity] : merged) {
        if (const auto parsed = kube::Quantity::parse(quantity)) quantity = parsed->to_string();
    }
    return merged;
}

CapacityKeeper::CapacityKeeper(Clock& clock, providers::Provider& provider, Capacity configured,
                               std::function<void(const Capacity&)> changed)
    : clock_(clock), provider_(provider), configured_(std::move(configured)), changed_(std::move(changed)) {}

Capacity CapacityKeeper::merged(const Capacity& offered) {
    std::vector<std::string> defaulted;
    Capacity capacity = merge_capacity(offered, configured_, defaulted);
    if (!defaulted.empty() && !told_defaults_) {
        told_defaults_ = true;
        log().warn(
            "provider {} does not say how much {} it offers; the Node shows defaults until --capacity sets "
            "them",
            provider_.name(), fmt::join(defaulted, ", "));
    }
    return capacity;
}

Capacity CapacityKeeper::first(Duration patience, std::stop_token stop) {
    const auto ctx = CallContext::with_timeout(clock_, patience, std::move(stop));
    auto offered = provider_.capacity(ctx);
    if (!offered)
        log().warn("asking provider {} for its capacity: {}", provider_.name(), offered.error().message);
    return merged(offered.value_or({}));
}

void CapacityKeeper::start() {
    thread_ = Thread("capacity", [this](std::stop_token stop) {
        while (clock_.sleep_for(kPollEvery, stop)) {
            auto offered = provider_.capacity(CallContext::with_timeout(clock_, kCallTimeout, stop));
            // No answer is no news: what was offered stays offered.
            if (offered) changed_(merged(*offered));
        }
    });
}

}  // namespace k8sgpu::vnode
