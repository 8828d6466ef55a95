#include "common/backoff.h"

#include <algorithm>

namespace k8sgpu {

Duration Backoff::next() {
    ++attempts_;
    const double base = static_cast<double>(next_.count());
    std::uniform_real_distribution<double> spread(1.0 - policy_.jitter, 1.0 + policy_.jitter);
    const double grown = std::min(base * policy_.factor, static_cast<double>(policy_.cap.count()));
    next_ = Duration(static_cast<Duration::rep>(grown));
    return Duration(static_cast<Duration::rep>(base * spread(random_)));
}

}  // namespace k8sgpu
