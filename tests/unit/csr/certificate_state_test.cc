#include "csr/certificate_state.h"

#include <gtest/gtest.h>

#include "common/encoding.h"
#include "tests/unit/csr/test_signer.h"

namespace k8sgpu::csr {
namespace {

using namespace std::chrono_literals;

template <typename T>
std::vector<T> all(const std::vector<Intent>& intents) {
    std::vector<T> out;
    for (const Intent& one : intents) {
        if (const T* match = std::get_if<T>(&one)) out.push_back(*match);
    }
    return out;
}

std::vector<std::string> reasons(const std::vector<Intent>& intents) {
    std::vector<std::string> out;
    for (const auto& announced : all<intent::Announce>(intents)) out.push_back(announced.reason);
    return out;
}

using Reasons = std::vector<std::string>;

struct CertificateStateTest : testing::Test {
    Moment now{SteadyTime(1h), WallTime(1'700'000'000s)};
    SubjectNames names{{"k8s.gpu"}, {"10.0.0.7"}};
    TestSigner signer;
    CertificateStateOptions options = [] {
        CertificateStateOptions o;
        o.node_name = "k8s.gpu";
        o.signer = "kubernetes.io/kubelet-serving";
        o.retry.jitter = 0;
        o.refused_retry.jitter = 0;
        o.random = [] { return 0.5; };
        return o;
    }();
    std::optional<CertificateState> machine;
    int created = 0;
    std::string request_pem;

    CertificateState& state() {
        if (!machine) machine.emplace(options);
        return *machine;
    }
    std::vector<Intent> step(const Event& event) { return state().step(event, now); }
    void pass(Duration time) {
        now.steady += time;
        now.wall += time;
    }

    // Loaded with nothing, names known: the machine asks.
    intent::Request begin() {
        step(event::Loaded{});
        const auto requests = all<intent::Request>(step(event::NamesChanged{names}));
        EXPECT_EQ(requests.size(), 1U);
        return requests.empty() ? intent::Request{} : requests.front();
    }
    // What the API server answers to the POST.
    event::Requested created_by_server(const intent::Request& request) {
        const KeyPair key = *KeyPair::generate();
        request_pem = *make_request(request.wanted, key);
        Json csr = make_csr_object(options.signer, request_pem, options.expiration);
        ++created;
        csr["metadata"] = {{"name", "csr-" + std::to_string(created)},
                           {"uid", "uid-" + std::to_string(created)}};
        csr["spec"]["username"] = "agent";
        return {csr, key, request.wanted};
    }
    Json with_certificate(Json csr, std::optional<TestSigner::Wish> wish = {}) {
        csr = with_approval(csr, now.wall);
        csr["status"]["certificate"] = base64_encode(
            signer.sign(request_pem, wish.value_or(TestSigner::Wish{now.wall - 5min, now.wall + 55min})));
        return csr;
    }
    HeldCertificate held(WallTime from, WallTime until, const SubjectNames& for_names) {
        const KeyPair key = *KeyPair::generate();
        const auto pem = make_request(node_template("k8s.gpu", for_names), key);
        return {*parse_certificates(signer.sign(*pem, {from, until})), key};
    }
};

TEST_F(CertificateStateTest, Asks_only_once_names_with_an_address_are_known) {
    EXPECT_TRUE(step(event::Loaded{}).empty());
    EXPECT_TRUE(step(event::Tick{}).empty());
    const auto dns_only = step(event::NamesChanged{{{"k8s.gpu"}, {}}});
    EXPECT_TRUE(all<intent::Request>(dns_only).empty());
    EXPECT_EQ(reasons(dns_only), Reasons{"CertificateWaitingForAddress"});
    const auto requests = all<intent::Request>(step(event::NamesChanged{names}));
    ASSERT_EQ(requests.size(), 1U);
    EXPECT_EQ(requests[0].wanted, node_template("k8s.gpu", names));
}

TEST_F(CertificateStateTest, Does_not_ask_before_the_store_was_read) {
    EXPECT_TRUE(step(event::NamesChanged{names}).empty());
    EXPECT_EQ(all<intent::Request>(step(event::Loaded{})).size(), 1U);
}

TEST_F(CertificateStateTest, Approves_its_own_request_and_installs_what_is_issued) {
    const auto requested = created_by_server(begin());
    const auto approve = all<intent::Approve>(step(requested));
    ASSERT_EQ(approve.size(), 1U);
    EXPECT_EQ(approve[0].name, "csr-1");
    EXPECT_TRUE(csr_condition(approve[0].csr, "Approved"));
    EXPECT_TRUE(step(event::Approved{}).empty());

    pass(1s);
    EXPECT_EQ(all<intent::Poll>(step(event::Tick{})).size(), 1U);
    const auto done = step(event::Seen{with_certificate(requested.csr)});
    const auto installed = all<intent::Install>(done);
    ASSERT_EQ(installed.size(), 1U);
    EXPECT_TRUE(installed[0].store);
    EXPECT_EQ(installed[0].certificate.key.public_key(), requested.key.public_key());
    EXPECT_EQ(reasons(done), Reasons{"CertificateIssued"});
    EXPECT_EQ(state().failures(), 0U);
    pass(1s);
    EXPECT_TRUE(step(event::Tick{}).empty());
}

TEST_F(CertificateStateTest, Never_approves_a_request_that_is_not_exactly_ours) {
    auto requested = created_by_server(begin());
    RequestTemplate foreign = node_template("other", names);
    requested.csr["spec"]["request"] = base64_encode(*make_request(foreign, requested.key));
    const auto out = step(requested);
    EXPECT_TRUE(all<intent::Approve>(out).empty());
    EXPECT_EQ(reasons(out), (Reasons{"CertificateApprovalFailed", "CertificateWaitingForApproval"}));
    pass(20min);
    EXPECT_TRUE(all<intent::Approve>(step(event::Seen{requested.csr})).empty());
}

TEST_F(CertificateStateTest, A_changed_requester_on_a_later_poll_is_not_approved) {
    auto requested = created_by_server(begin());
    step(requested);
    step(event::ApproveFailed{Error{ErrorKind::Conflict, "conflict", {}, {}}});
    requested.csr["spec"]["username"] = "mallory";
    EXPECT_TRUE(all<intent::Approve>(step(event::Seen{requested.csr})).empty());
}

TEST_F(CertificateStateTest, Without_self_approval_it_waits_and_says_what_to_run) {
    options.self_approve = false;
    const auto requested = created_by_server(begin());
    const auto out = step(requested);
    EXPECT_TRUE(all<intent::Approve>(out).empty());
    const auto said = all<intent::Announce>(out);
    ASSERT_EQ(said.size(), 1U);
    EXPECT_EQ(said[0].reason, "CertificateWaitingForApproval");
    EXPECT_NE(said[0].message.find("kubectl certificate approve csr-1"), std::string::npos);
    pass(5min);
    EXPECT_TRUE(reasons(step(event::Seen{requested.csr})).empty());
    pass(11min);
    EXPECT_EQ(reasons(step(event::Seen{requested.csr})), Reasons{"CertificateWaitingForApproval"});
    EXPECT_EQ(created, 1) << "one pending request, however long it takes";
}

TEST_F(CertificateStateTest, A_forbidden_approval_names_the_permission_and_is_tried_again_later) {
    const auto requested = created_by_server(begin());
    step(requested);
    const auto out = step(event::ApproveFailed{Error{ErrorKind::Forbidden, "no", {}, {}}});
    EXPECT_EQ(reasons(out), (Reasons{"CertificateApprovalFailed", "CertificateWaitingForApproval"}));
    EXPECT_NE(all<intent::Announce>(out)[0].message.find("approve on signers kubernetes.io/kubelet-serving"),
              std::string::npos);
    pass(30s);
    EXPECT_TRUE(all<intent::Approve>(step(event::Seen{requested.csr})).empty());
    pass(31s);
    EXPECT_EQ(all<intent::Approve>(step(event::Seen{requested.csr})).size(), 1U);
}

TEST_F(CertificateStateTest, A_conflict_at_approval_is_tried_again_on_what_was_read_anew) {
    auto requested = created_by_server(begin());
    step(requested);
    EXPECT_TRUE(step(event::ApproveFailed{Error{ErrorKind::Conflict, "changed", {}, {}}}).empty());
    requested.csr["metadata"]["resourceVersion"] = "9";
    const auto approve = all<intent::Approve>(step(event::Seen{requested.csr}));
    ASSERT_EQ(approve.size(), 1U);
    EXPECT_EQ(approve[0].csr["metadata"]["resourceVersion"], "9");
}

TEST_F(CertificateStateTest, A_denied_request_is_announced_and_repeated_with_growing_delay) {
    Duration waited{0};
    auto request = begin();
    for (const Duration expected : {10s, 20s, 40s}) {
        auto requested = created_by_server(request);
        step(requested);
        requested.csr["status"]["conditions"] = {
            {{"type", "Denied"}, {"status", "True"}, {"reason", "Policy"}, {"message", "not you"}}};
        const auto out = step(event::Seen{requested.csr});
        ASSERT_EQ(reasons(out), Reasons{"CertificateDenied"});
        EXPECT_NE(all<intent::Announce>(out)[0].message.find("reason Policy, message \"not you\""),
                  std::string::npos);
        pass(expected - 1ms);
        EXPECT_TRUE(step(event::Tick{}).empty());
        pass(1ms);
        const auto again = all<intent::Request>(step(event::Tick{}));
        ASSERT_EQ(again.size(), 1U);
        request = again[0];
        waited += expected;
    }
    EXPECT_EQ(state().failures(), 3U);
}

TEST_F(CertificateStateTest, A_failed_request_shows_the_signers_reason) {
    auto requested = created_by_server(begin());
    step(requested);
    requested.csr["status"]["conditions"] = {{{"type", "Failed"},
                                              {"status", "True"},
                                              {"reason", "SignerValidationFailure"},
                                              {"message", "bad usage"}}};
    const auto out = step(event::Seen{requested.csr});
    ASSERT_EQ(reasons(out), Reasons{"CertificateFailed"});
    EXPECT_NE(all<intent::Announce>(out)[0].message.find("SignerValidationFailure"), std::string::npos);
}

TEST_F(CertificateStateTest,
       Approved_but_never_issued_is_said_after_two_minutes_and_asked_anew_after_fifteen) {
    const auto requested = created_by_server(begin());
    step(requested);
    step(event::Approved{});
    const Json approved = with_approval(requested.csr, now.wall);
    pass(119s);
    EXPECT_TRUE(reasons(step(event::Seen{approved})).empty());
    pass(1s);
    const auto out = step(event::Seen{approved});
    ASSERT_EQ(reasons(out), Reasons{"CertificateNotIssued"});
    EXPECT_NE(all<intent::Announce>(out)[0].message.find("csrsigning"), std::string::npos);
    pass(13min);
    EXPECT_TRUE(all<intent::Request>(step(event::Tick{})).empty());
    step(event::Seen{approved});
    EXPECT_EQ(state().failures(), 1U);
    pass(2s);
    EXPECT_EQ(all<intent::Request>(step(event::Tick{})).size(), 1U);
}

TEST_F(CertificateStateTest, A_deleted_request_is_asked_anew_with_a_new_key) {
    const auto requested = created_by_server(begin());
    step(requested);
    EXPECT_EQ(reasons(step(event::PollFailed{Error{ErrorKind::NotFound, "gone", {}, {}}})),
              Reasons{"CertificateRequestDeleted"});
    pass(2s);
    EXPECT_EQ(all<intent::Request>(step(event::Tick{})).size(), 1U);
}

TEST_F(CertificateStateTest, Another_object_under_the_same_name_is_not_believed) {
    auto requested = created_by_server(begin());
    step(requested);
    Json other = with_certificate(requested.csr);
    other["metadata"]["uid"] = "someone-elses";
    const auto out = step(event::Seen{other});
    EXPECT_TRUE(all<intent::Install>(out).empty());
    EXPECT_EQ(reasons(out), Reasons{"CertificateRequestReplaced"});
}

TEST_F(CertificateStateTest, A_certificate_for_another_key_or_without_our_names_is_not_used) {
    const KeyPair other = *KeyPair::generate();
    TestSigner::Wish bad_wishes[] = {{now.wall, now.wall + 1h, false, &other},
                                     {now.wall, now.wall + 1h, true, nullptr},
                                     {now.wall - 2h, now.wall - 1h, false, nullptr}};
    auto request = begin();
    for (const auto& wish : bad_wishes) {
        const auto requested = created_by_server(request);
        step(requested);
        const auto out = step(event::Seen{with_certificate(requested.csr, wish)});
        EXPECT_TRUE(all<intent::Install>(out).empty());
        EXPECT_EQ(reasons(out), Reasons{"CertificateUnusable"});
        pass(10min);
        const auto again = all<intent::Request>(step(event::Tick{}));
        ASSERT_EQ(again.size(), 1U);
        request = again[0];
    }
}

TEST_F(CertificateStateTest, Failed_posts_back_off_to_half_a_minute_and_name_the_permission) {
    begin();
    const auto out = step(event::RequestFailed{Error{ErrorKind::Forbidden, "forbidden", {}, {}}});
    ASSERT_EQ(reasons(out), Reasons{"CertificateRequestFailed"});
    EXPECT_NE(all<intent::Announce>(out)[0].message.find("certificatesigningrequests"), std::string::npos);
    for (const Duration delay : {2s, 4s, 8s, 16s, 32s, 32s}) {
        pass(delay - 1ms);
        EXPECT_TRUE(all<intent::Request>(step(event::Tick{})).empty());
        pass(1ms);
        EXPECT_EQ(all<intent::Request>(step(event::Tick{})).size(), 1U);
        EXPECT_TRUE(
            reasons(step(event::RequestFailed{Error{ErrorKind::Forbidden, "forbidden", {}, {}}})).empty())
            << "the same words are not repeated within ten minutes";
    }
}

TEST_F(CertificateStateTest, Reuses_a_stored_certificate_that_fits) {
    step(event::NamesChanged{names});
    const auto out = step(event::Loaded{held(now.wall - 1h, now.wall + 9h, names)});
    const auto installed = all<intent::Install>(out);
    ASSERT_EQ(installed.size(), 1U);
    EXPECT_FALSE(installed[0].store);
    EXPECT_TRUE(all<intent::Request>(out).empty());
}

TEST_F(CertificateStateTest, A_stored_certificate_that_lacks_a_name_serves_until_the_new_one_comes) {
    step(event::NamesChanged{names});
    const auto out = step(event::Loaded{held(now.wall - 1h, now.wall + 9h, {{}, {"10.0.0.8"}})});
    EXPECT_EQ(all<intent::Install>(out).size(), 1U);
    EXPECT_EQ(all<intent::Request>(out).size(), 1U);
}

TEST_F(CertificateStateTest, An_expired_or_mismatched_stored_certificate_is_not_used) {
    step(event::NamesChanged{names});
    auto out = step(event::Loaded{held(now.wall - 2h, now.wall - 1h, names)});
    EXPECT_TRUE(all<intent::Install>(out).empty());
    EXPECT_EQ(all<intent::Request>(out).size(), 1U);

    machine.reset();
    step(event::NamesChanged{names});
    HeldCertificate mixed = held(now.wall - 1h, now.wall + 1h, names);
    mixed.key = *KeyPair::generate();
    out = step(event::Loaded{mixed});
    EXPECT_TRUE(all<intent::Install>(out).empty());
    EXPECT_EQ(all<intent::Request>(out).size(), 1U);
}

TEST_F(CertificateStateTest, Renews_at_the_drawn_part_of_its_life) {
    for (const auto& [random, share] : {std::pair{0.0, 0.7}, {0.5, 0.8}, {0.999, 0.9}}) {
        machine.reset();
        options.random = [r = random] { return r; };
        step(event::NamesChanged{names});
        step(event::Loaded{held(now.wall, now.wall + 10h, names)});
        const Moment start = now;
        pass(std::chrono::duration_cast<Duration>(10h * share - 3min));
        EXPECT_TRUE(all<intent::Request>(step(event::Tick{})).empty()) << share;
        pass(6min);
        EXPECT_EQ(all<intent::Request>(step(event::Tick{})).size(), 1U) << share;
        now = start;
    }
}

TEST_F(CertificateStateTest, A_new_address_asks_anew_and_drops_the_pending_request) {
    const auto first = created_by_server(begin());
    step(first);
    const SubjectNames more{{"k8s.gpu"}, {"10.0.0.7", "10.0.0.9"}};
    const auto requests = all<intent::Request>(step(event::NamesChanged{more}));
    ASSERT_EQ(requests.size(), 1U);
    EXPECT_EQ(requests[0].wanted.names, more);
    const auto second = created_by_server(requests[0]);
    step(second);
    EXPECT_TRUE(all<intent::Install>(step(event::Seen{with_certificate(first.csr)})).empty());
}

TEST_F(CertificateStateTest, Fewer_names_need_no_new_certificate) {
    step(event::NamesChanged{{{"k8s.gpu"}, {"10.0.0.7", "10.0.0.9"}}});
    step(event::Loaded{held(now.wall, now.wall + 10h, {{"k8s.gpu"}, {"10.0.0.7", "10.0.0.9"}})});
    EXPECT_TRUE(step(event::NamesChanged{names}).empty());
}

TEST_F(CertificateStateTest, An_expiry_without_successor_is_said_once) {
    step(event::NamesChanged{names});
    step(event::Loaded{held(now.wall - 1h, now.wall + 1h, names)});
    pass(59min);
    step(event::Tick{});
    step(event::RequestFailed{Error{ErrorKind::Unavailable, "down", {}, {}}});
    pass(1min);
    EXPECT_EQ(reasons(step(event::Tick{})), Reasons{"CertificateExpired"});
    step(event::RequestFailed{Error{ErrorKind::Unavailable, "down", {}, {}}});
    pass(1min);
    EXPECT_TRUE(reasons(step(event::Tick{})).empty());
}

TEST_F(CertificateStateTest, A_certificate_that_is_due_at_birth_does_not_make_it_spin) {
    const auto requested = created_by_server(begin());
    step(requested);
    step(event::Seen{with_certificate(requested.csr, TestSigner::Wish{now.wall - 10h, now.wall + 1min})});
    EXPECT_TRUE(all<intent::Request>(step(event::Tick{})).empty());
    pass(2s);
    EXPECT_EQ(all<intent::Request>(step(event::Tick{})).size(), 1U);
}

TEST_F(CertificateStateTest, A_store_that_fails_is_said_while_the_certificate_stays_in_use) {
    const auto requested = created_by_server(begin());
    step(requested);
    step(event::Seen{with_certificate(requested.csr)});
    EXPECT_EQ(reasons(step(event::StoreFailed{Error{ErrorKind::Forbidden, "no", {}, {}}})),
              Reasons{"CertificateNotStored"});
    EXPECT_TRUE(state().current());
}

TEST_F(CertificateStateTest, Wakes_for_polls_retries_and_renewal) {
    EXPECT_EQ(state().next_tick(now), now.steady + 30s);
    const auto request = begin();
    step(created_by_server(request));
    EXPECT_EQ(state().next_tick(now), now.steady + 1s);
}

}  // namespace
}  // namespace k8sgpu::csr
