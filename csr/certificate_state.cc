#include "csr/certificate_state.h"

#include <fmt/format.h>

#include <algorithm>

#include "common/encoding.h"

namespace k8sgpu::csr {

namespace {

constexpr Duration kLongestTick{30'000};

// Eager while a machine decides, relaxed once a person has to.
Duration poll_delay(Duration age) {
    if (age < Duration(30'000)) return Duration(1'000);
    if (age < Duration(600'000)) return Duration(5'000);
    return Duration(15'000);
}

std::string explained(const CsrCondition& condition) {
    return fmt::format("reason {}, message \"{}\"", condition.reason.empty() ? "not given" : condition.reason,
                       condition.message);
}

// What an administrator should look at when an approved request stays without a certificate.
std::string_view signer_hint(std::string_view signer) {
    if (signer == "kubernetes.io/kubelet-serving")
        return "check that kube-controller-manager runs its csrsigning controller with a signing certificate "
               "and "
               "key for kubelet-serving; on EKS use --csr-signer=aws";
    if (signer == "beta.eks.amazonaws.com/app-serving")
        return "this signer exists on EKS only; elsewhere use --csr-signer=kubelet";
    return "check that a controller for this signer runs in the cluster";
}

}  // namespace

CertificateState::CertificateState(CertificateStateOptions options)
    : options_(std::move(options)), retry_(options_.retry), refused_retry_(options_.refused_retry) {}

std::vector<Intent> CertificateState::step(const Event& event, Moment now) {
    Intents out;
    std::visit([&](const auto& e) { on(e, now, out); }, event);
    return out;
}

SteadyTime CertificateState::next_tick(Moment now) const {
    SteadyTime due = now.steady + kLongestTick;
    const auto at_wall = [&](WallTime when) {
        if (when > now.wall) due = std::min(due, now.steady + (when - now.wall) + Duration(1));
    };
    if (pending_) {
        due = std::min(due, pending_->next_poll);
    } else if (loaded_ && needs_new(now)) {
        due = std::min(due, std::max(retry_at_, now.steady));
    }
    if (current_) {
        at_wall(renew_at_);
        at_wall(current_->info.not_after);
    }
    return due;
}

bool CertificateState::needs_new(Moment now) const {
    if (!wanted_ || wanted_->names.ips.empty()) return false;
    return !current_ || !current_->info.covers(wanted_->names) || now.wall >= renew_at_;
}

void CertificateState::on(const event::Loaded& loaded, Moment now, Intents& out) {
    loaded_ = true;
    if (loaded.certificate) {
        const CertificateInfo& info = loaded.certificate->info;
        if (info.subject.public_key != loaded.certificate->key.public_key()) {
            announce(true, "CertificateUnusable",
                     "the stored key does not belong to the stored certificate; asking for a new one", now,
                     out);
        } else if (now.wall >= info.not_after) {
            announce(true, "CertificateExpired",
                     fmt::format("the stored serving certificate expired at {}; asking for a new one",
                                 rfc3339_seconds(info.not_after)),
                     now, out);
        } else {
            hold(*loaded.certificate, /*store=*/false, now, out);
        }
    }
    on(event::Tick{}, now, out);
}

void CertificateState::on(const event::NamesChanged& changed, Moment now, Intents& out) {
    wanted_ = node_template(options_.node_name, changed.names);
    if (pending_ && !pending_->own.wanted.names.covers(wanted_->names)) pending_.reset();
    if (wanted_->names.ips.empty())
        announce(true, "CertificateWaitingForAddress",
                 "the node has no IP address yet; the serving certificate is asked for once it has one", now,
                 out);
    // New names are new hope: earlier failures may have been about the old ones.
    retry_at_ = now.steady;
    on(event::Tick{}, now, out);
}

void CertificateState::on(const event::Requested& requested, Moment now, Intents& out) {
    requesting_ = false;
    const std::string name = string_at(requested.csr, {"metadata", "name"});
    OwnRequest own{string_at(requested.csr, {"metadata", "uid"}),
                   string_at(requested.csr, {"spec", "username"}),
                   options_.signer,
                   requested.wanted,
                   requested.key.public_key(),
                   options_.expiration};
    pending_.emplace(Pending{
        .name = name,
        .own = std::move(own),
        .key = requested.key,
        .csr = requested.csr,
        .since = now.steady,
        .next_poll = now.steady + poll_delay(Duration::zero()),
        .next_reminder = now.steady,
        .approve_at = options_.self_approve ? SteadyTime::min() : SteadyTime::max(),
    });
    on(event::Seen{requested.csr}, now, out);
}

void CertificateState::on(const event::RequestFailed& failed, Moment now, Intents& out) {
    requesting_ = false;
    if (failed.error.kind == ErrorKind::Cancelled) return;
    give_up(retry_, now);
    std::string hint;
    if (failed.error.kind == ErrorKind::Forbidden)
        hint = "; grant the node agent create, get on certificatesigningrequests.certificates.k8s.io";
    announce(
        true, "CertificateRequestFailed",
        fmt::format("asking {} for a serving certificate: {}{}", options_.signer, failed.error.message, hint),
        now, out);
}

void CertificateState::on(const event::Seen& seen, Moment now, Intents& out) {
    if (!pending_) return;
    pending_->csr = seen.csr;
    const std::string uid = string_at(seen.csr, {"metadata", "uid"});
    if (uid != pending_->own.uid) {
        announce(true, "CertificateRequestReplaced",
                 fmt::format("request {} is another object now; asking anew", pending_->name), now, out);
        return give_up(retry_, now);
    }
    if (const auto denied = csr_condition(seen.csr, "Denied")) {
        announce(true, "CertificateDenied",
                 fmt::format("request {} for the serving certificate was denied, {}; it is repeated later, "
                             "settle with whoever denied it",
                             pending_->name, explained(*denied)),
                 now, out);
        return give_up(refused_retry_, now);
    }
    if (const auto failed = csr_condition(seen.csr, "Failed")) {
        announce(true, "CertificateFailed",
                 fmt::format("signer {} refused request {}, {}; it is repeated later", options_.signer,
                             pending_->name, explained(*failed)),
                 now, out);
        return give_up(refused_retry_, now);
    }
    const std::string encoded = string_at(seen.csr, {"status", "certificate"});
    if (!encoded.empty()) return take_issued(encoded, now, out);

    if (csr_condition(seen.csr, "Approved")) {
        if (!pending_->approved_at) pending_->approved_at = now.steady;
    } else {
        try_approve(now, out);
    }
    judge_waiting(now, out);
}

void CertificateState::on(const event::PollFailed& failed, Moment now, Intents& out) {
    if (!pending_ || failed.error.kind == ErrorKind::Cancelled) return;
    if (failed.error.kind == ErrorKind::NotFound) {
        announce(true, "CertificateRequestDeleted",
                 fmt::format("request {} was deleted before it was answered; asking anew", pending_->name),
                 now, out);
        return give_up(retry_, now);
    }
    if (!is_retryable(failed.error.kind))
        announce(true, "CertificateRequestUnreadable",
                 fmt::format("reading request {}: {}", pending_->name, failed.error.message), now, out);
    judge_waiting(now, out);
}

void CertificateState::on(const event::Approved& /*approved*/, Moment now, Intents& out) {
    if (!pending_) return;
    pending_->approved_by_us = true;
    if (!pending_->approved_at) pending_->approved_at = now.steady;
    judge_waiting(now, out);
}

void CertificateState::on(const event::ApproveFailed& failed, Moment now, Intents& out) {
    if (!pending_ || failed.error.kind == ErrorKind::Cancelled) return;
    // Conflict: somebody touched the object; the next poll reads and checks it again.
    if (is_retryable(failed.error.kind)) return judge_waiting(now, out);
    std::string hint;
    if (failed.error.kind == ErrorKind::Forbidden) {
        pending_->approve_at = now.steady + options_.approve_again;
        hint = fmt::format(
            " (self-approval needs update on certificatesigningrequests/approval and approve on signers {})",
            options_.signer);
    } else {
        pending_->approve_at = SteadyTime::max();
    }
    announce(true, "CertificateApprovalFailed",
             fmt::format("approving our request {}: {}{}", pending_->name, failed.error.message, hint), now,
             out);
    judge_waiting(now, out);
}

void CertificateState::on(const event::StoreFailed& failed, Moment now, Intents& out) {
    if (failed.error.kind == ErrorKind::Cancelled) return;
    announce(true, "CertificateNotStored",
             fmt::format("the serving certificate is in use but could not be kept for the next start: {}",
                         failed.error.message),
             now, out);
}

void CertificateState::on(const event::Tick& /*tick*/, Moment now, Intents& out) {
    if (current_ && !said_expired_ && now.wall >= current_->info.not_after) {
        said_expired_ = true;
        announce(true, "CertificateExpired",
                 fmt::format("the serving certificate expired at {} and no new one could be had; logs and "
                             "exec fail until then",
                             rfc3339_seconds(current_->info.not_after)),
                 now, out);
    }
    if (pending_) {
        if (now.steady < pending_->next_poll) return;
        pending_->next_poll =
            now.steady + poll_delay(std::chrono::duration_cast<Duration>(now.steady - pending_->since));
        out.push_back(intent::Poll{pending_->name});
        return;
    }
    if (!loaded_ || requesting_ || now.steady < retry_at_ || !needs_new(now)) return;
    requesting_ = true;
    out.push_back(intent::Request{*wanted_});
}

void CertificateState::hold(HeldCertificate certificate, bool store, Moment now, Intents& out) {
    const CertificateInfo& info = certificate.info;
    const double share = 0.7 + 0.2 * std::clamp(options_.random ? options_.random() : 0.5, 0.0, 1.0);
    renew_at_ = info.not_before +
                std::chrono::duration_cast<WallTime::duration>((info.not_after - info.not_before) * share);
    said_expired_ = false;
    current_ = certificate;
    announce(false, store ? "CertificateIssued" : "CertificateReused",
             fmt::format("serving certificate by {} is valid until {}, renewed after {}",
                         store ? options_.signer : "an earlier run", rfc3339_seconds(info.not_after),
                         rfc3339_seconds(renew_at_)),
             now, out);
    out.push_back(intent::Install{std::move(certificate), store});
}

void CertificateState::take_issued(const std::string& encoded, Moment now, Intents& out) {
    const auto refuse = [&](const std::string& why) {
        announce(true, "CertificateUnusable",
                 fmt::format("signer {} answered request {} with a certificate that cannot be used: {}",
                             options_.signer, pending_->name, why),
                 now, out);
        give_up(refused_retry_, now);
    };
    const auto pem = base64_decode(encoded);
    if (!pem) return refuse(pem.error().message);
    auto info = parse_certificates(*pem);
    if (!info) return refuse(info.error().message);
    if (info->subject.public_key != pending_->own.public_key) return refuse("it is for another key");
    if (!info->covers(pending_->own.wanted.names)) return refuse("it lacks names that were asked for");
    if (now.wall >= info->not_after) return refuse("it has expired already; check the clocks");

    HeldCertificate certificate{std::move(*info), pending_->key};
    pending_.reset();
    retry_.reset();
    refused_retry_.reset();
    retry_at_ = now.steady;
    hold(std::move(certificate), /*store=*/true, now, out);
    // A signer whose certificates are due for renewal at birth must not make us spin.
    if (needs_new(now)) give_up(retry_, now);
}

void CertificateState::try_approve(Moment now, Intents& out) {
    if (pending_->approved_by_us || now.steady < pending_->approve_at) return;
    const auto own = check_own_request(pending_->csr, pending_->own);
    if (own) {
        out.push_back(intent::Approve{pending_->name, with_approval(pending_->csr, now.wall)});
        return;
    }
    pending_->approve_at = SteadyTime::max();
    announce(true, "CertificateApprovalFailed",
             fmt::format("request {} is not what we asked for, so we do not approve it: {}", pending_->name,
                         own.error().message),
             now, out);
}

void CertificateState::judge_waiting(Moment now, Intents& out) {
    if (pending_->approved_at) {
        const auto age =
            std::chrono::duration_cast<std::chrono::seconds>(now.steady - *pending_->approved_at);
        const bool over = age >= options_.unissued_limit;
        if (over || (age >= options_.unissued_warning && !pending_->warned_unissued)) {
            pending_->warned_unissued = true;
            announce(true, "CertificateNotIssued",
                     fmt::format("request {} was approved {} s ago, but signer {} has issued nothing: {}",
                                 pending_->name, age.count(), options_.signer, signer_hint(options_.signer)),
                     now, out);
        }
        if (over) give_up(retry_, now);
        return;
    }
    const bool ours_to_approve = pending_->approve_at <= now.steady;
    if (ours_to_approve || now.steady < pending_->next_reminder) return;
    pending_->next_reminder = now.steady + options_.reminder;
    announce(true, "CertificateWaitingForApproval",
             fmt::format("request {} waits for approval; run: kubectl certificate approve {}", pending_->name,
                         pending_->name),
             now, out);
}

void CertificateState::give_up(Backoff& backoff, Moment now) {
    pending_.reset();
    ++failures_;
    retry_at_ = now.steady + backoff.next();
}

void CertificateState::announce(bool warning, std::string reason, std::string message, Moment now,
                                Intents& out) {
    auto known =
        std::find_if(said_.begin(), said_.end(), [&](const auto& entry) { return entry.first == reason; });
    if (known == said_.end()) {
        said_.emplace_back(reason, Words{message, now.steady});
    } else {
        if (known->second.text == message && now.steady - known->second.said_at < options_.quiet) return;
        known->second = {message, now.steady};
    }
    out.push_back(intent::Announce{warning, std::move(reason), std::move(message)});
}

}  // namespace k8sgpu::csr
