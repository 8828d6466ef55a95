#include "csr/signer.h"

#include <gtest/gtest.h>

namespace k8sgpu::csr {
namespace {

TEST(Signer, Words_stand_for_full_names) {
    EXPECT_EQ(*signer_name("kubelet"), "kubernetes.io/kubelet-serving");
    EXPECT_EQ(*signer_name("aws"), "beta.eks.amazonaws.com/app-serving");
}

TEST(Signer, A_full_name_is_taken_as_it_is) {
    EXPECT_EQ(*signer_name("example.com/my-signer"), "example.com/my-signer");
    EXPECT_EQ(*signer_name("kubernetes.io/kubelet-serving"), "kubernetes.io/kubelet-serving");
}

TEST(Signer, Anything_else_is_refused_with_the_choices) {
    for (const char* bad :
         {"", "gcp", "Kubelet", "nodomain/x", "a.b/", "A.b/c", "a..b/c", "-a.b/c", "a.b/c d"}) {
        const auto name = signer_name(bad);
        ASSERT_FALSE(name) << bad;
        EXPECT_EQ(name.error().kind, ErrorKind::Invalid);
        EXPECT_NE(name.error().message.find("kubelet (kubernetes.io/kubelet-serving)"), std::string::npos);
        EXPECT_NE(name.error().message.find("aws ("), std::string::npos);
    }
}

}  // namespace
}  // namespace k8sgpu::csr
