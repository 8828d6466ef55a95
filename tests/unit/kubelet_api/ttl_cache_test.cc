#include "kubelet_api/ttl_cache.h"

#include <gtest/gtest.h>

namespace k8sgpu::kubelet_api {
namespace {

using namespace std::chrono_literals;
const SteadyTime kNow(1h);

TEST(TtlCache, Forgets_at_expiry) {
    TtlCache<int> cache(10);
    cache.put("a", 1, kNow + 10s);
    EXPECT_EQ(cache.get("a", kNow + 9s), 1);
    EXPECT_EQ(cache.get("a", kNow + 10s), std::nullopt);
    EXPECT_EQ(cache.get("a", kNow), std::nullopt) << "gone for good";
}

TEST(TtlCache, Drops_what_was_used_least_recently) {
    TtlCache<int> cache(2);
    cache.put("a", 1, kNow + 10s);
    cache.put("b", 2, kNow + 10s);
    (void)cache.get("a", kNow);
    cache.put("c", 3, kNow + 10s);
    EXPECT_EQ(cache.get("b", kNow), std::nullopt);
    EXPECT_EQ(cache.get("a", kNow), 1);
    EXPECT_EQ(cache.get("c", kNow), 3);
}

TEST(TtlCache, A_second_put_replaces_the_first) {
    TtlCache<int> cache(2);
    cache.put("a", 1, kNow + 1s);
    cache.put("a", 2, kNow + 10s);
    EXPECT_EQ(cache.get("a", kNow + 5s), 2);
}

}  // namespace
}  // namespace k8sgpu::kubelet_api
