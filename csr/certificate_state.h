// Decides everything about the serving certificate: when to ask, whether to approve, how long to wait, what
// to tell people, when to renew. A pure state machine: events in, intents out; CertificateManager carries the
// intents out and owns thread, network and disk.
//
//   Waiting for names ──names──▶ Request ──created──▶ Pending ──certificate──▶ Valid ──70–90 %, new names─┐
//                                   ▲                    │ denied, failed, deleted, never issued            │
//                                   └──────back-off──────┴──────────────────────────────────────────────────┘
//
// The order is the kubelet's (certificate manager), with one deliberate difference: a request that nobody has
// approved yet is waited for as long as it exists instead of being replaced every 15 minutes, so that an
// administrator finds one pending request and not dozens. The key of a request lives in memory only: after a
// restart an old request is never picked up again.
//
// Not synchronised; one thread.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "common/backoff.h"
#include "common/clock.h"
#include "common/json.h"
#include "csr/certificate_request.h"
#include "csr/key_pair.h"
#include "csr/own_request.h"

namespace k8sgpu::csr {

struct Moment {
    SteadyTime steady;
    WallTime wall;
};

// A certificate with its private key.
struct HeldCertificate {
    CertificateInfo info;
    KeyPair key;
};

struct CertificateStateOptions {
    std::string node_name;
    std::string signer;  // full name
    bool self_approve = true;
    std::optional<std::chrono::seconds> expiration;  // asked of the signer, >= 600 s; nullopt = its default
    Duration unissued_warning{120'000};              // approved for so long without a certificate: say so
    Duration unissued_limit{900'000};                // … and after this, ask anew
    Duration reminder{900'000};                      // repeats "waiting for approval"
    Duration approve_again{60'000};  // after Forbidden: permissions may arrive later than we do
    Duration quiet{600'000};         // the same words are not repeated within this time
    BackoffPolicy retry{Duration(2'000), Duration(32'000), 2.0, 0.1};            // after errors
    BackoffPolicy refused_retry{Duration(10'000), Duration(600'000), 2.0, 0.1};  // after Denied or Failed
    // [0, 1): where in the 70–90 % of its life a certificate is renewed.
    std::function<double()> random;
};

namespace event {
struct Loaded {  // what the store had; nothing when it was empty or unreadable
    std::optional<HeldCertificate> certificate;
};
struct NamesChanged {
    SubjectNames names;  // normalised
};
struct Requested {  // the POST was answered with `csr`
    Json csr;
    KeyPair key;
    RequestTemplate wanted;
};
struct RequestFailed {
    Error error;
};
struct Seen {  // a poll found the object
    Json csr;
};
struct PollFailed {  // NotFound: it was deleted
    Error error;
};
struct Approved {};
struct ApproveFailed {
    Error error;
};
struct StoreFailed {
    Error error;
};
struct Tick {};
}  // namespace event

using Event =
    std::variant<event::Loaded, event::NamesChanged, event::Requested, event::RequestFailed, event::Seen,
                 event::PollFailed, event::Approved, event::ApproveFailed, event::StoreFailed, event::Tick>;

namespace intent {
struct Request {  // make a new key and POST
    RequestTemplate wanted;
};
struct Approve {  // PUT …/approval; answered by Approved or ApproveFailed
    std::string name;
    Json csr;
};
struct Poll {  // GET; answered by Seen or PollFailed
    std::string name;
};
struct Install {  // swap into the TLS context and, if `store`, keep; StoreFailed when that fails
    HeldCertificate certificate;
    bool store = true;
};
struct Announce {  // an Event on the node and a log line
    bool warning = false;
    std::string reason;  // CamelCase
    std::string message;
};
}  // namespace intent

using Intent =
    std::variant<intent::Request, intent::Approve, intent::Poll, intent::Install, intent::Announce>;

class CertificateState {
  public:
    explicit CertificateState(CertificateStateOptions options);

    // Every event except Tick is either news or the answer to an intent; answers come before the next step.
    std::vector<Intent> step(const Event& event, Moment now);

    // When the next Tick is due, at most 30 s from now (wall time may jump).
    SteadyTime next_tick(Moment now) const;

    const std::optional<HeldCertificate>& current() const { return current_; }
    std::uint64_t failures() const { return failures_; }  // attempts that ended without a certificate

  private:
    struct Pending {
        std::string name;
        OwnRequest own;
        KeyPair key;
        Json csr;  // as last seen
        SteadyTime since, next_poll, next_reminder;
        bool approved_by_us = false;
        // When we may try to approve it (again); max = never, somebody else has to.
        SteadyTime approve_at = SteadyTime::min();
        std::optional<SteadyTime> approved_at = {};
        bool warned_unissued = false;
    };
    struct Words {
        std::string text;
        SteadyTime said_at;
    };
    using Intents = std::vector<Intent>;

    void on(const event::Loaded& loaded, Moment now, Intents& out);
    void on(const event::NamesChanged& changed, Moment now, Intents& out);
    void on(const event::Requested& requested, Moment now, Intents& out);
    void on(const event::RequestFailed& failed, Moment now, Intents& out);
    void on(const event::Seen& seen, Moment now, Intents& out);
    void on(const event::PollFailed& failed, Moment now, Intents& out);
    void on(const event::Approved& approved, Moment now, Intents& out);
    void on(const event::ApproveFailed& failed, Moment now, Intents& out);
    void on(const event::StoreFailed& failed, Moment now, Intents& out);
    void on(const event::Tick& tick, Moment now, Intents& out);

    bool needs_new(Moment now) const;
    void hold(HeldCertificate certificate, bool store, Moment now, Intents& out);
    void take_issued(const std::string& encoded, Moment now, Intents& out);
    void try_approve(Moment now, Intents& out);
    void judge_waiting(Moment now, Intents& out);
    void give_up(Backoff& backoff, Moment now);
    void announce(bool warning, std::string reason, std::string message, Moment now, Intents& out);

    CertificateStateOptions options_;
    bool loaded_ = false;
    std::optional<RequestTemplate> wanted_;
    std::optional<HeldCertificate> current_;
    WallTime renew_at_{};
    bool said_expired_ = false;
    std::optional<Pending> pending_;
    bool requesting_ = false;  // a Request intent is out
    SteadyTime retry_at_ = SteadyTime::min();
    Backoff retry_, refused_retry_;
    std::uint64_t failures_ = 0;
    std::vector<std::pair<std::string, Words>> said_;  // last words per reason
};

}  // namespace k8sgpu::csr
