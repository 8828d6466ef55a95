// Asks the provider every half minute what it offers and keeps the Node's capacity equal to it. What the
// operator set by
// --capacity wins over the provider's word; what neither says gets a default that is logged once.
//
// One thread, "capacity", because the provider may be slow and the heartbeat must not wait for it. Owned by
// Node; start() once, stop() idempotent, joins.
#pragma once

#include <functional>
#include <map>
#include <string>

#include "common/guarded.h"
#include "common/thread.h"
#include "providers/port/provider.h"

namespace k8sgpu::vnode {

using Capacity = std::map<std::string, std::string>;

// Provider's offer, then the operator's word, then defaults for what a Node cannot do without (cpu, memory,
// pods, ephemeral-storage). Quantities are written as the API server stores them, or every comparison with
// the Node would differ. `defaulted` names what had to be invented.
Capacity merge_capacity(const Capacity& offered, const Capacity& configured,
                        std::vector<std::string>& defaulted);

class CapacityKeeper {
  public:
    CapacityKeeper(Clock& clock, providers::Provider& provider, Capacity configured,
                   std::function<void(const Capacity&)> changed);

    // The first answer, or the defaults when the provider does not answer within `patience`.
    Capacity first(Duration patience, std::stop_token stop);
    void start();
    void stop() { thread_.stop(); }
    // Another --capacity, reported at once; any thread.
    void use_configured(Capacity configured);

  private:
    Capacity merged();

    Clock& clock_;
    providers::Provider& provider_;
    struct Words {
        Capacity configured, offered;
    };
    Guarded<Words> words_;
    Guarded<bool> changed_words_;
    std::condition_variable_any wake_;
    std::function<void(const Capacity&)> changed_;
    bool told_defaults_ = false;
    Thread thread_;
};

}  // namespace k8sgpu::vnode
