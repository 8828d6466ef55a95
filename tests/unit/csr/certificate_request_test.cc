#include "csr/certificate_request.h"

#include <gtest/gtest.h>

#include "tests/unit/csr/test_signer.h"

namespace k8sgpu::csr {
namespace {

using namespace std::chrono_literals;

const SubjectNames kNames{{"k8s.gpu"}, {"10.0.0.7", "fd00::7"}};

// Ends on 9999-09-06, as one without an end does (RFC 5280 §4.1.2.5).
const std::string kNeverEnds =
    "-----BEGIN CERTIFICATE-----\n"
    "MIIB1TCCAXugAwIBAgIUWPIku5LmQtD2b+yBOzlKtuTr2JswCgYIKoZIzj0EAwIw\n"
    "NTEVMBMGA1UECgwMc3lzdGVtOm5vZGVzMRwwGgYDVQQDDBNzeXN0ZW06bm9kZTpr\n"
    "OHMuZ3B1MCAXDTI2MTEyMzAxMzUxMloYDzk5OTkwOTA2MDEzNTEyWjA1MRUwEwYD\n"
    "VQQKDAxzeXN0ZW06bm9kZXMxHDAaBgNVBAMME3N5c3RlbTpub2RlOms4cy5ncHUw\n"
    "WTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAATdXAgqSYYQdUYBXJIdBX/XKy1U7cdp\n"
    "L5OgCVy+j1EanNesWK+cWqqZXDdYcnVZE81g6A0p8g97/riqOOdyepGyo2cwZTAd\n"
    "BgNVHQ4EFgQUPS7RmZDXzE8bmgw4kqchuUBrD+kwHwYDVR0jBBgwFoAUPS7RmZDX\n"
    "zE8bmgw4kqchuUBrD+kwDwYDVR0TAQH/BAUwAwEB/zASBgNVHREECzAJggdrOHMu\n"
    "Z3B1MAoGCCqGSM49BAMCA0gAMEUCIGPBz/Onim9d8kTCD8rCWusGz/+XS3Y61Flv\n"
    "DIeJPZ/wAiEA9fK9DFgXeRH95W4cv+QRNk+S/YzLWiSGvbG+EUmupDA=\n"
    "-----END CERTIFICATE-----\n";

TEST(KeyPair, Survives_its_text_form) {
    const KeyPair key = *KeyPair::generate();
    const auto again = KeyPair::from_pem(key.pem());
    ASSERT_TRUE(again);
    EXPECT_EQ(again->public_key(), key.public_key());
    EXPECT_NE(KeyPair::generate()->public_key(), key.public_key());
}

TEST(KeyPair, Is_found_behind_certificates) {
    const KeyPair key = *KeyPair::generate();
    const auto request = make_request(node_template("n", kNames), key);
    ASSERT_TRUE(request);
    const std::string certificate = TestSigner().sign(*request, {WallTime(1s), WallTime(2s)});
    EXPECT_EQ(KeyPair::from_pem(certificate + key.pem())->public_key(), key.public_key());
    EXPECT_EQ(KeyPair::from_pem(certificate).error().kind, ErrorKind::Invalid);
}

TEST(CertificateInfo, Of_a_certificate_without_an_end_lies_far_ahead) {
    const auto info = parse_certificates(kNeverEnds);
    ASSERT_TRUE(info);
    EXPECT_GT(info->not_after - info->not_before, std::chrono::hours(24 * 365 * 100));
}

TEST(CertificateRequest, Says_what_the_template_says) {
    const KeyPair key = *KeyPair::generate();
    const auto pem = make_request(node_template("k8s.gpu", kNames), key);
    ASSERT_TRUE(pem);
    const auto info = parse_request(*pem);
    ASSERT_TRUE(info);
    EXPECT_EQ(info->common_name, "system:node:k8s.gpu");
    EXPECT_EQ(info->organizations, std::vector<std::string>{"system:nodes"});
    EXPECT_EQ(info->other_subject_fields, 0);
    EXPECT_EQ(info->names, kNames);
    EXPECT_EQ(info->other_names, 0);
    EXPECT_EQ(info->public_key, key.public_key());
}

TEST(CertificateRequest, Takes_node_names_longer_than_a_common_name_may_be_in_X520) {
    const std::string node(200, 'n');
    const auto pem = make_request(node_template(node, kNames), *KeyPair::generate());
    ASSERT_TRUE(pem);
    EXPECT_EQ(parse_request(*pem)->common_name, "system:node:" + node);
}

TEST(CertificateRequest, With_a_broken_signature_is_refused) {
    const auto pem = make_request(node_template("n", kNames), *KeyPair::generate());
    ASSERT_TRUE(pem);
    std::string broken = *pem;
    const auto end = broken.find("\n-----END");
    broken[end - 8] = broken[end - 8] == 'A' ? 'B' : 'A';
    EXPECT_EQ(parse_request(broken).error().kind, ErrorKind::Invalid);
    EXPECT_EQ(parse_request("nonsense").error().kind, ErrorKind::Invalid);
    EXPECT_EQ(parse_request("").error().kind, ErrorKind::Invalid);
}

TEST(SubjectNames, Are_sorted_without_repeats_and_addresses_move_to_their_place) {
    const auto names = normalise({{"z", "10.0.0.1", "a", "", "z"}, {"fd00:0::7", "10.0.0.1"}});
    ASSERT_TRUE(names);
    EXPECT_EQ(names->dns, (std::vector<std::string>{"a", "z"}));
    EXPECT_EQ(names->ips, (std::vector<std::string>{"10.0.0.1", "fd00::7"}));
}

TEST(SubjectNames, That_are_none_are_named_in_the_error) {
    EXPECT_NE(normalise({{}, {"10.0.0"}}).error().message.find("\"10.0.0\""), std::string::npos);
    EXPECT_NE(normalise({{"a b"}, {}}).error().message.find("\"a b\""), std::string::npos);
}

TEST(SubjectNames, Cover_their_subsets_only) {
    EXPECT_TRUE(kNames.covers({{}, {"10.0.0.7"}}));
    EXPECT_TRUE(kNames.covers(kNames));
    EXPECT_FALSE(kNames.covers({{"other"}, {}}));
    EXPECT_FALSE((SubjectNames{{}, {"10.0.0.7"}}).covers(kNames));
}

TEST(Certificate, Is_read_with_names_dates_and_chain) {
    const KeyPair key = *KeyPair::generate();
    const auto request = make_request(node_template("n", kNames), key);
    const TestSigner signer;
    const WallTime from(1'700'000'000s), until(1'700'003'600s);
    const std::string leaf = signer.sign(*request, {from, until});
    const std::string other = signer.sign(*request, {from, until + 1s});
    const auto info = parse_certificates(leaf + other + key.pem());
    ASSERT_TRUE(info);
    EXPECT_EQ(info->subject.names, kNames);
    EXPECT_EQ(info->subject.public_key, key.public_key());
    EXPECT_EQ(info->not_before, from);
    EXPECT_EQ(info->not_after, until);
    EXPECT_EQ(info->chain_pem, leaf + other);
    EXPECT_EQ(parse_certificates("").error().kind, ErrorKind::Invalid);
    EXPECT_EQ(parse_certificates(key.pem()).error().kind, ErrorKind::Invalid);
}

}  // namespace
}  // namespace k8sgpu::csr
