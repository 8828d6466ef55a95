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
    : clock_(clock),
      provider_(provider),
      words_(std::in_place, Words{std::move(configured), {}}),
      changed_(std::move(changed)) {}

Capacity CapacityKeeper::merged() {
    std::vector<std::string> defaulted;
    const Words words = *words_.lock();
    Capacity capacity = merge_capacity(words.offered, words.configured, defaulted);
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
    words_.lock()->offered = offered.value_or({});
    return merged();
}

void CapacityKeeper::use_configured(Capacity configured) {
    words_.lock()->configured = std::move(configured);
    *changed_words_.lock() = true;
    wake_.notify_all();
}

void CapacityKeeper::start() {
    thread_ = Thread("capacity", [this](std::stop_token stop) {
        while (true) {
            {
                auto changed = changed_words_.lock();
                changed.wait_until(clock_, wake_, clock_.now() + kPollEvery, stop, [&] { return *changed; });
                *changed = false;
            }
            if (stop.stop_requested()) return;
            auto offered = provider_.capacity(CallContext::with_timeout(clock_, kCallTimeout, stop));
            // No answer is no news: what was offered stays offered.
            if (offered) words_.lock()->offered = std::move(*offered);
            changed_(merged());
        }
    });
}

}  // namespace k8sgpu::vnode
