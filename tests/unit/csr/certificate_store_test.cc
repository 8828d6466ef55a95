#include "csr/certificate_store.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>

#include "common/encoding.h"
#include "common/file.h"
#include "kube/testing/fake_transport.h"

namespace k8sgpu::csr {
namespace {

const StoredCertificate kFirst{"-----BEGIN CERTIFICATE-----\nMQ==\n-----END CERTIFICATE-----\n",
                               "-----BEGIN PRIVATE KEY-----\nMg==\n-----END PRIVATE KEY-----\n"};

struct DirectoryStoreTest : testing::Test {
    DirectoryStoreTest() {
        char name[] = "/tmp/k8sgpu-store-XXXXXX";
        root = mkdtemp(name);
        directory = root + "/pki";
    }
    ~DirectoryStoreTest() override { std::filesystem::remove_all(root); }
    FakeClock clock;
    CallContext ctx = CallContext::until_stopped(clock, {});
    std::string root, directory;
};

TEST_F(DirectoryStoreTest, Is_empty_at_first) {
    const auto loaded = DirectoryCertificateStore(directory).load(ctx);
    ASSERT_TRUE(loaded);
    EXPECT_FALSE(*loaded);
}

TEST_F(DirectoryStoreTest, Returns_what_was_saved_and_keeps_it_private) {
    DirectoryCertificateStore store(directory);
    ASSERT_TRUE(store.save(kFirst, ctx));
    const auto loaded = DirectoryCertificateStore(directory).load(ctx);
    ASSERT_TRUE(loaded && *loaded);
    EXPECT_EQ((*loaded)->chain_pem, kFirst.chain_pem);
    EXPECT_EQ((*loaded)->key_pem, kFirst.key_pem);
    struct stat info {};
    ASSERT_EQ(stat((directory + "/kubelet-server-current.pem").c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 0777U, 0600U);
    ASSERT_EQ(lstat((directory + "/kubelet-server-current.pem").c_str(), &info), 0);
    EXPECT_TRUE(S_ISLNK(info.st_mode));
    EXPECT_EQ(std::filesystem::read_symlink(directory + "/kubelet-server-current.pem").filename(),
              "kubelet-server-2023-11-14-22-13-20.pem");
}

TEST_F(DirectoryStoreTest, The_newest_wins_and_old_files_do_not_pile_up) {
    DirectoryCertificateStore store(directory);
    StoredCertificate last = kFirst;
    for (int i = 0; i < 5; ++i) {
        last.key_pem = "-----BEGIN PRIVATE KEY-----\n" + std::to_string(i) + "\n-----END PRIVATE KEY-----\n";
        ASSERT_TRUE(store.save(last, ctx));
        clock.advance(Duration(60'000));
    }
    EXPECT_EQ((*store.load(ctx))->key_pem, last.key_pem);
    const auto entries = std::distance(std::filesystem::directory_iterator(directory), {});
    EXPECT_EQ(entries, 3) << "the link, the current file, one older";
}

TEST_F(DirectoryStoreTest, A_file_that_others_may_write_is_refused) {
    DirectoryCertificateStore store(directory);
    ASSERT_TRUE(store.save(kFirst, ctx));
    ASSERT_EQ(chmod((directory + "/kubelet-server-current.pem").c_str(), 0666), 0);
    EXPECT_FALSE(store.load(ctx));
}

struct SecretStoreTest : testing::Test {
    FakeClock clock;
    CallContext ctx = CallContext::until_stopped(clock, {});
    kube::FakeTransport api;
    kube::ApiClient client{api};
    SecretCertificateStore store{client, "ns", "cert", "k8s.gpu"};
    const std::string path = "/api/v1/namespaces/ns/secrets/cert";

    Json secret(const std::string& owner, const std::string& key) const {
        Json out = {{"metadata", {{"name", "cert"}, {"resourceVersion", "5"}}},
                    {"type", "kubernetes.io/tls"}};
        if (!owner.empty())
            out["metadata"]["annotations"][std::string(SecretCertificateStore::kNodeAnnotation)] = owner;
        out["data"] = {{"tls.crt", base64_encode(kFirst.chain_pem)}, {"tls.key", base64_encode(key)}};
        return out;
    }
};

TEST_F(SecretStoreTest, Is_empty_when_there_is_no_secret) {
    const auto loaded = store.load(ctx);
    ASSERT_TRUE(loaded);
    EXPECT_FALSE(*loaded);
}

TEST_F(SecretStoreTest, Creates_the_secret_with_type_owner_and_both_parts) {
    api.reply("POST", "/api/v1/namespaces/ns/secrets", 201, Json::object());
    ASSERT_TRUE(store.save(kFirst, ctx));
    const auto posts = api.requests("POST", "/api/v1/namespaces/ns/secrets");
    ASSERT_EQ(posts.size(), 1U);
    const Json sent = *parse_json(posts[0].body, "secret");
    EXPECT_EQ(sent["type"], "kubernetes.io/tls");
    EXPECT_EQ(sent["data"]["tls.key"], base64_encode(kFirst.key_pem));
    EXPECT_EQ(sent["metadata"]["annotations"][std::string(SecretCertificateStore::kNodeAnnotation)],
              "k8s.gpu");
}

TEST_F(SecretStoreTest, Returns_what_is_there) {
    api.reply("GET", path, 200, secret("k8s.gpu", kFirst.key_pem));
    const auto loaded = store.load(ctx);
    ASSERT_TRUE(loaded && *loaded);
    EXPECT_EQ((*loaded)->chain_pem, kFirst.chain_pem);
    EXPECT_EQ((*loaded)->key_pem, kFirst.key_pem);
}

TEST_F(SecretStoreTest, Replaces_its_own_secret_under_its_version_and_keeps_other_fields) {
    Json old = secret("k8s.gpu", "old");
    old["metadata"]["labels"] = {{"team", "x"}};
    api.reply("GET", path, 200, old);
    api.reply_once("PUT", path, 409, {{"kind", "Status"}, {"reason", "Conflict"}, {"code", 409}});
    api.reply("PUT", path, 200, Json::object());
    ASSERT_TRUE(store.save(kFirst, ctx));
    const auto puts = api.requests("PUT", path);
    ASSERT_EQ(puts.size(), 2U);
    const Json sent = *parse_json(puts[1].body, "secret");
    EXPECT_EQ(sent["metadata"]["resourceVersion"], "5");
    EXPECT_EQ(sent["metadata"]["labels"]["team"], "x");
    EXPECT_EQ(sent["data"]["tls.key"], base64_encode(kFirst.key_pem));
}

TEST_F(SecretStoreTest, Neither_reads_nor_replaces_what_belongs_to_somebody_else) {
    for (const char* owner : {"", "other-node"}) {
        api.reply("GET", path, 200, secret(owner, "foreign key"));
        EXPECT_EQ(store.load(ctx).error().kind, ErrorKind::Invalid);
        EXPECT_EQ(store.save(kFirst, ctx).error().kind, ErrorKind::Invalid);
    }
    EXPECT_TRUE(api.requests("PUT", path).empty());
}

TEST_F(SecretStoreTest, Fills_an_empty_secret_that_an_administrator_prepared) {
    api.reply("GET", path, 200, secret("", ""));
    api.reply("PUT", path, 200, Json::object());
    EXPECT_TRUE(store.save(kFirst, ctx));
}

TEST_F(SecretStoreTest, Reports_missing_permission) {
    api.reply("GET", path, 403,
              {{"kind", "Status"}, {"reason", "Forbidden"}, {"message", "no"}, {"code", 403}});
    EXPECT_EQ(store.load(ctx).error().kind, ErrorKind::Forbidden);
    EXPECT_EQ(store.save(kFirst, ctx).error().kind, ErrorKind::Forbidden);
}

}  // namespace
}  // namespace k8sgpu::csr
