// Repeats a review (TokenReview, SubjectAccessReview) that failed for reasons time heals. The attempts follow
// the kubelet's webhook client: 500 ms × 1.5, five in all. Blocks its connection thread; any thread.
#pragma once

#include "common/backoff.h"
#include "common/call_context.h"
#include "kube/api_client.h"

namespace k8sgpu::kubelet_api {

inline Result<Json> create_review(kube::ApiClient& client, const kube::Resource& resource, const Json& review,
                                  const BackoffPolicy& retry, int attempts, const CallContext& ctx) {
    Backoff backoff(retry);
    while (true) {
        auto answer = client.create(resource, "", review, ctx);
        if (answer || !is_retryable(answer.error().kind) || --attempts <= 0) return answer;
        const Duration delay =
            std::max(backoff.next(), answer.error().retry_after.value_or(Duration::zero()));
        if (ctx.remaining() <= delay || !ctx.clock().sleep_for(delay, ctx.stop())) return answer;
    }
}

}  // namespace k8sgpu::kubelet_api
