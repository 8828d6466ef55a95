#include "common/metrics.h"

#include <prometheus/text_serializer.h>

namespace k8sgpu {

std::string render_metrics(const MetricsRegistry& registry) {
    return prometheus::TextSerializer().Serialize(registry.Collect());
}

}  // namespace k8sgpu
