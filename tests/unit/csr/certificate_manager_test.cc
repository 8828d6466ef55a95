#include "csr/certificate_manager.h"

#include <gtest/gtest.h>

#include <atomic>

#include "common/encoding.h"
#include "kube/testing/fake_transport.h"
#include "tests/unit/csr/test_signer.h"

namespace k8sgpu::csr {
namespace {

using namespace std::chrono_literals;

const std::string kCollection = "/apis/certificates.k8s.io/v1/certificatesigningrequests";

class MemoryStore final : public CertificateStore {
  public:
    Result<std::optional<StoredCertificate>> load(const CallContext&) override { return *kept.lock(); }
    Result<void> save(const StoredCertificate& certificate, const CallContext&) override {
        if (broken) return fail(ErrorKind::Forbidden, "no");
        *kept.lock() = certificate;
        return {};
    }
    std::string describe() const override { return "memory"; }
    Guarded<std::optional<StoredCertificate>> kept;
    std::atomic<bool> broken{false};
};

class Witness final : public CertificateObserver {
  public:
    void on_certificate(const std::string& chain, const std::string&) override {
        seen.lock()->certificates.push_back(chain);
        changed.notify_all();
    }
    void on_event(const std::string&, const std::string& reason, const std::string&) override {
        seen.lock()->reasons.push_back(reason);
        changed.notify_all();
    }
    struct Seen {
        std::vector<std::string> certificates, reasons;
    };
    bool wait_for_certificates(std::size_t count, Duration patience = 10s) {
        SystemClock real;
        auto locked = seen.lock();
        return locked.wait_until(real, changed, real.now() + patience, {},
                                 [&] { return locked->certificates.size() >= count; });
    }
    bool wait_for_reason(const std::string& reason) {
        SystemClock real;
        auto locked = seen.lock();
        return locked.wait_until(real, changed, real.now() + 10s, {}, [&] {
            return std::count(locked->reasons.begin(), locked->reasons.end(), reason) > 0;
        });
    }
    Guarded<Seen> seen;
    std::condition_variable_any changed;
};

// A cluster that keeps one request and signs it once it is approved.
struct CertificateManagerTest : testing::Test {
    CertificateManagerTest() {
        options.state.node_name = "k8s.gpu";
        options.state.signer = "kubernetes.io/kubelet-serving";
        options.state.random = [] { return 0.5; };
        api.handle("POST", kCollection, [this](const kube::Request& request) -> Result<kube::Response> {
            auto csr = csrs.lock();
            ++csr->count;
            csr->object = *parse_json(request.body, "csr");
            csr->object["metadata"] = {{"name", "csr-x"}, {"uid", "uid-" + std::to_string(csr->count)}};
            csr->object["spec"]["username"] = "agent";
            return kube::Response{201, {}, dump_json(csr->object)};
        });
        api.handle("PUT", kCollection + "/csr-x/approval",
                   [this](const kube::Request& request) -> Result<kube::Response> {
                       auto csr = csrs.lock();
                       csr->object = *parse_json(request.body, "csr");
                       csr->object["status"]["certificate"] = base64_encode(
                           signer.sign(*base64_decode(string_at(csr->object, {"spec", "request"})),
                                       {clock.wall_now() - 5min, clock.wall_now() + 55min}));
                       return kube::Response{200, {}, dump_json(csr->object)};
                   });
        api.handle("GET", kCollection + "/csr-x", [this](const kube::Request&) -> Result<kube::Response> {
            return kube::Response{200, {}, dump_json(csrs.lock()->object)};
        });
    }
    std::unique_ptr<CertificateManager> make() {
        registry = std::make_unique<MetricsRegistry>();
        return std::make_unique<CertificateManager>(clock, client, store, witness, *registry, options);
    }
    // Lets fake time pass until so many certificates were installed.
    bool pass_time_until_certificates(std::size_t count) {
        for (int i = 0; i < 1000; ++i) {
            if (!clock.wait_for_sleepers(1)) return false;
            if (witness.wait_for_certificates(count, 10ms)) return true;
            clock.advance(1s);
        }
        return false;
    }
    struct Csrs {
        Json object;
        int count = 0;
    };
    FakeClock clock;
    TestSigner signer;
    kube::FakeTransport api;
    kube::ApiClient client{api};
    MemoryStore store;
    Witness witness;
    std::unique_ptr<MetricsRegistry> registry;
    CertificateManagerOptions options;
    Guarded<Csrs> csrs;
    const SubjectNames names{{"k8s.gpu"}, {"10.0.0.7"}};
};

TEST_F(CertificateManagerTest, Gets_stores_and_serves_a_certificate) {
    const auto manager = make();
    ASSERT_TRUE(manager->set_names(names));
    manager->start();
    ASSERT_TRUE(pass_time_until_certificates(1));
    ASSERT_TRUE(witness.wait_for_reason("CertificateIssued"));
    ASSERT_TRUE(clock.wait_for_sleepers(1));
    ASSERT_TRUE(*store.kept.lock());
    EXPECT_TRUE(manager->has_certificate());
    manager->stop();
    EXPECT_NE(render_metrics(*registry).find("kubelet_certificate_manager_server_ttl_seconds"),
              std::string::npos);
}

TEST_F(CertificateManagerTest, Reuses_the_stored_certificate_after_a_restart) {
    {
        const auto manager = make();
        ASSERT_TRUE(manager->set_names(names));
        manager->start();
        ASSERT_TRUE(pass_time_until_certificates(1));
    }
    const auto again = make();
    ASSERT_TRUE(again->set_names(names));
    again->start();
    ASSERT_TRUE(witness.wait_for_certificates(2));
    ASSERT_TRUE(clock.wait_for_sleepers(1));
    EXPECT_EQ(csrs.lock()->count, 1);
    auto seen = witness.seen.lock();
    EXPECT_EQ(seen->certificates[0], seen->certificates[1]);
}

TEST_F(CertificateManagerTest, Renews_before_the_end_without_being_asked) {
    const auto manager = make();
    ASSERT_TRUE(manager->set_names(names));
    manager->start();
    ASSERT_TRUE(pass_time_until_certificates(1));
    ASSERT_TRUE(witness.wait_for_reason("CertificateIssued"));
    ASSERT_TRUE(clock.wait_for_sleepers(1));
    clock.advance(40min);  // the certificate is some 45 of its 60 minutes old, due at 48
    EXPECT_EQ(csrs.lock()->count, 1);
    clock.advance(4min);
    ASSERT_TRUE(api.wait_for_requests("PUT", kCollection + "/csr-x/approval", 2));
    EXPECT_TRUE(pass_time_until_certificates(2));
}

TEST_F(CertificateManagerTest, Bad_names_are_refused_at_once) {
    const auto manager = make();
    EXPECT_EQ(manager->set_names({{}, {"not-an-ip"}}).error().kind, ErrorKind::Invalid);
}

TEST_F(CertificateManagerTest, A_store_that_cannot_write_does_not_stop_serving) {
    store.broken = true;
    const auto manager = make();
    ASSERT_TRUE(manager->set_names(names));
    manager->start();
    ASSERT_TRUE(pass_time_until_certificates(1));
    EXPECT_TRUE(witness.wait_for_reason("CertificateNotStored"));
}

TEST_F(CertificateManagerTest, Stops_while_waiting_and_twice) {
    options.state.self_approve = false;
    const auto manager = make();
    ASSERT_TRUE(manager->set_names(names));
    manager->start();
    ASSERT_TRUE(witness.wait_for_reason("CertificateWaitingForApproval"));
    manager->stop();
    manager->stop();
}

}  // namespace
}  // namespace k8sgpu::csr
