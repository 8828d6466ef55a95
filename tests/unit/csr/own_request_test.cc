#include "csr/own_request.h"

#include <gtest/gtest.h>

#include <functional>

#include "common/encoding.h"

namespace k8sgpu::csr {
namespace {

struct OwnRequestTest : testing::Test {
    KeyPair key = *KeyPair::generate();
    SubjectNames names{{"k8s.gpu"}, {"10.0.0.7"}};
    OwnRequest own{"uid-1",
                   "system:serviceaccount:k8sgpu:agent",
                   "kubernetes.io/kubelet-serving",
                   node_template("k8s.gpu", names),
                   key.public_key(),
                   std::nullopt};

    Json object(const RequestTemplate& wanted, const KeyPair& with) const {
        Json csr = make_csr_object(own.signer, *make_request(wanted, with), own.expiration);
        csr["metadata"] = {{"name", "csr-abc"}, {"uid", own.uid}};
        csr["spec"]["username"] = own.username;
        return csr;
    }
    Json ours() const { return object(own.wanted, key); }
};

TEST_F(OwnRequestTest, Our_own_request_passes) {
    const auto checked = check_own_request(ours(), own);
    EXPECT_TRUE(checked) << checked.error().message;
}

TEST_F(OwnRequestTest, Anything_that_differs_is_refused_and_named) {
    RequestTemplate other_cn = own.wanted, other_o = own.wanted, more_names = own.wanted, fewer = own.wanted;
    other_cn.common_name = "system:node:other";
    other_o.organization = "system:masters";
    more_names.names.dns.push_back("kubernetes.default");
    fewer.names.dns.clear();
    struct Case {
        const char* name;
        std::function<Json()> make;
    };
    const auto changed = [&](auto change) {
        return [=, this] {
            Json csr = ours();
            change(csr);
            return csr;
        };
    };
    const Case cases[] = {
        {"metadata.uid", changed([](Json& c) { c["metadata"]["uid"] = "uid-2"; })},
        {"spec.username", changed([](Json& c) { c["spec"]["username"] = "mallory"; })},
        {"spec.username", changed([](Json& c) { c["spec"].erase("username"); })},
        {"spec.signerName",
         changed([](Json& c) { c["spec"]["signerName"] = "kubernetes.io/kube-apiserver-client"; })},
        {"spec.usages", changed([](Json& c) { c["spec"]["usages"].push_back("client auth"); })},
        {"spec.usages", changed([](Json& c) { c["spec"]["usages"] = {"server auth"}; })},
        {"spec.usages", changed([](Json& c) {
             c["spec"]["usages"] = {"server auth", "server auth"};
         })},
        {"spec.expirationSeconds", changed([](Json& c) { c["spec"]["expirationSeconds"] = 86400 * 3650; })},
        {"spec.request", changed([](Json& c) { c["spec"]["request"] = "!!"; })},
        {"spec.request", changed([](Json& c) { c["spec"]["request"] = base64_encode("nonsense"); })},
        {"CN", [&] { return object(other_cn, key); }},
        {"O", [&] { return object(other_o, key); }},
        {"names", [&] { return object(more_names, key); }},
        {"names", [&] { return object(fewer, key); }},
        {"public key", [&] { return object(own.wanted, *KeyPair::generate()); }},
    };
    for (const Case& one : cases) {
        const auto checked = check_own_request(one.make(), own);
        ASSERT_FALSE(checked) << one.name;
        EXPECT_NE(checked.error().message.find(one.name), std::string::npos) << checked.error().message;
    }
}

TEST_F(OwnRequestTest, Without_knowledge_of_ourselves_nothing_passes) {
    OwnRequest nameless = own;
    nameless.username.clear();
    Json csr = ours();
    csr["spec"]["username"] = "";
    EXPECT_FALSE(check_own_request(csr, nameless));
    EXPECT_FALSE(check_own_request(Json::object(), own));
    EXPECT_FALSE(check_own_request(Json(), own));
}

TEST_F(OwnRequestTest, The_object_is_what_signers_demand) {
    const Json csr = make_csr_object("example.com/s", "PEM", std::chrono::seconds(600));
    EXPECT_EQ(csr["metadata"]["generateName"], "csr-");
    EXPECT_FALSE(csr["metadata"].contains("name"));
    EXPECT_EQ(csr["spec"]["signerName"], "example.com/s");
    EXPECT_EQ(csr["spec"]["usages"], (Json{"digital signature", "server auth"}));
    EXPECT_EQ(csr["spec"]["expirationSeconds"], 600);
    EXPECT_EQ(csr["spec"]["request"], base64_encode("PEM"));
}

TEST_F(OwnRequestTest, Approval_keeps_the_object_and_its_conditions) {
    Json csr = ours();
    csr["metadata"]["resourceVersion"] = "41";
    csr["status"]["conditions"] = {{{"type", "Other"}}};
    const Json approved = with_approval(csr, WallTime(std::chrono::seconds(0)));
    EXPECT_EQ(approved["metadata"], csr["metadata"]);
    EXPECT_EQ(approved["spec"], csr["spec"]);
    ASSERT_EQ(approved["status"]["conditions"].size(), 2U);
    EXPECT_TRUE(csr_condition(approved, "Approved"));
    EXPECT_FALSE(csr_condition(csr, "Approved"));
}

}  // namespace
}  // namespace k8sgpu::csr
