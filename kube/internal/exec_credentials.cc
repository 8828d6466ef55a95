#include "kube/internal/exec_credentials.h"

#include <algorithm>

#include "common/encoding.h"
#include "common/log.h"
#include "kube/internal/pem.h"
#include "kube/internal/subprocess.h"

namespace k8sgpu::kube {
namespace {

using namespace std::chrono_literals;

constexpr Duration kPluginTimeout = 60s;
constexpr Duration kFailurePause = 5s;
constexpr Duration kRejectPause = 10s;
constexpr Duration kRefreshAhead = 30s;

// One printable line of at most 300 characters: the end of what the plugin complained about.
std::string last_line(const std::string& text) {
    std::string line;
    std::string last;
    for (const char c : text + "\n") {
        if (c == '\n' || c == '\r') {
            if (line.find_first_not_of(' ') != std::string::npos) last = line;
            line.clear();
        } else {
            line += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
        }
    }
    return last.size() > 300 ? last.substr(last.size() - 300) : last;
}

bool has_control_characters(const std::string& text) {
    return std::any_of(text.begin(), text.end(),
                       [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; });
}

}  // namespace

Result<IssuedCredential> parse_exec_credential(std::string_view output, const std::string& api_version) {
    const auto json = parse_json(output, "its output");
    if (!json) return fail(json.error());
    if (string_at(*json, {"kind"}) != "ExecCredential")
        return fail(ErrorKind::Invalid, "its output is not of kind ExecCredential");
    if (const std::string got = string_at(*json, {"apiVersion"}); got != api_version) {
        return fail(ErrorKind::Invalid,
                    "it answered with apiVersion " + got + ", the kubeconfig says " + api_version);
    }
    IssuedCredential issued;
    issued.token = string_at(*json, {"status", "token"});
    issued.client_cert = string_at(*json, {"status", "clientCertificateData"});
    issued.client_key = string_at(*json, {"status", "clientKeyData"});
    if (issued.token.empty() && issued.client_cert.empty())
        return fail(ErrorKind::Invalid, "its status holds neither token nor clientCertificateData");
    if (issued.client_cert.empty() != issued.client_key.empty())
        return fail(ErrorKind::Invalid, "clientCertificateData and clientKeyData must come together");
    if (has_control_characters(issued.token))
        return fail(ErrorKind::Invalid, "its token holds line breaks or control characters");
    if (!issued.client_cert.empty()) {
        if (auto fine = check_key_pair(issued.client_cert, issued.client_key); !fine)
            return fail(fine.error().with_context("clientCertificateData"));
    }
    if (const std::string expires = string_at(*json, {"status", "expirationTimestamp"}); !expires.empty()) {
        issued.expires = parse_rfc3339(expires);
        if (!issued.expires)
            return fail(ErrorKind::Invalid, "expirationTimestamp is not a time in RFC 3339 form");
    }
    return issued;
}

std::string exec_info(const ClientConfig& config, const std::string& ca_pem) {
    Json info = {{"kind", "ExecCredential"},
                 {"apiVersion", config.exec->api_version},
                 {"spec", {{"interactive", false}}}};
    if (config.exec->provide_cluster_info) {
        Json cluster = {{"server", config.server}};
        if (!config.tls_server_name.empty()) cluster["tls-server-name"] = config.tls_server_name;
        if (config.insecure_skip_tls_verify) cluster["insecure-skip-tls-verify"] = true;
        if (!ca_pem.empty()) cluster["certificate-authority-data"] = base64_encode(ca_pem);
        if (!config.proxy_url.empty()) cluster["proxy-url"] = config.proxy_url;
        if (!config.exec->cluster_config.is_null()) cluster["config"] = config.exec->cluster_config;
        info["spec"]["cluster"] = std::move(cluster);
    }
    return dump_json(info);
}

ExecCredentials::ExecCredentials(ClientConfig config, Clock& clock, std::function<std::string()> read_ca)
    : config_(std::move(config)), clock_(clock), read_ca_(std::move(read_ca)) {
    thread_ = Thread("kube-exec", [this](std::stop_token stop) { loop(std::move(stop)); });
}

ExecCredentials::~ExecCredentials() {
    state_.lock()->stopping = true;
    changed_.notify_all();
    thread_.stop();
}

ExecCredentials::Freshness ExecCredentials::freshness(const State& state) const {
    if (!state.current || state.rejected) return Freshness::Unusable;
    if (!state.current->expires) return Freshness::Fresh;
    const auto left = *state.current->expires - clock_.wall_now();
    if (left <= 0s) return Freshness::Unusable;
    // A tenth of what was left when it was issued, for tokens that live for seconds only.
    const auto age = clock_.now() - *state.issued_at;
    const auto ahead = std::min<std::chrono::nanoseconds>(kRefreshAhead, (left + age) / 10);
    return left <= ahead ? Freshness::RefreshSoon : Freshness::Fresh;
}

Result<IssuedCredential> ExecCredentials::get(const CallContext& ctx) {
    auto state = state_.lock();
    const std::uint64_t seen = state->runs;
    while (true) {
        const Freshness now = freshness(*state);
        if (now == Freshness::Fresh) return *state->current;
        const bool failed_lately = state->failure && clock_.now() < state->failed_at + kFailurePause;
        if (!failed_lately && !state->wanted) {
            state->wanted = true;
            changed_.notify_all();
        }
        if (now == Freshness::RefreshSoon) return *state->current;
        if (state->failure && (failed_lately || state->runs != seen)) return fail(*state->failure);
        const auto ready = [&] { return !state->wanted || state->stopping; };
        if (!state.wait_until(ctx.clock(), changed_, ctx.deadline(), ctx.stop(), ready)) {
            const auto ended = ctx.check();
            return fail(ended ? Error{ErrorKind::Cancelled, "stopped", {}, {}}
                              : ended.error().with_context("waiting for the credential plugin"));
        }
        if (state->stopping) return fail(ErrorKind::Cancelled, "stopped");
    }
}

void ExecCredentials::reject() {
    auto state = state_.lock();
    const SteadyTime now = clock_.now();
    if (state->rejected_at && now < *state->rejected_at + kRejectPause) return;
    state->rejected_at = now;
    state->rejected = true;
}

void ExecCredentials::loop(std::stop_token stop) {
    while (true) {
        {
            auto state = state_.lock();
            state.wait_until(clock_, changed_, SteadyTime::max(), stop,
                             [&] { return state->wanted || state->stopping; });
            if (stop.stop_requested() || state->stopping) return;
        }
        auto issued = run_plugin(CallContext::with_timeout(clock_, kPluginTimeout, stop));
        auto state = state_.lock();
        state->wanted = false;
        ++state->runs;
        if (issued) {
            state->current = std::move(*issued);
            state->issued_at = clock_.now();
            state->rejected = false;
            state->failure.reset();
        } else {
            if (issued.error().kind == ErrorKind::Cancelled) return;
            log().warn("{}", issued.error().message);
            state->failure = issued.error();
            state->failed_at = clock_.now();
        }
        changed_.notify_all();
    }
}

Result<IssuedCredential> ExecCredentials::run_plugin(const CallContext& ctx) {
    const ExecPlugin& plugin = *config_.exec;
    Command command;
    command.program = plugin.command;
    command.args = plugin.args;
    command.env = plugin.env;
    command.env.emplace_back("KUBERNETES_EXEC_INFO",
                             exec_info(config_, plugin.provide_cluster_info ? read_ca_() : ""));
    const auto refuse = [&](const std::string& why) {
        return fail(ErrorKind::Unauthorized, "credential plugin " + plugin.command + ": " + why);
    };
    auto result = run_command(command, ctx);
    if (!result && result.error().kind == ErrorKind::NotFound) {
        const std::string hint = last_line(plugin.install_hint);
        return refuse("no such program" + (hint.empty() ? "" : "; " + hint));
    }
    if (!result && result.error().kind == ErrorKind::Cancelled) return fail(result.error());
    if (!result && result.error().kind == ErrorKind::Timeout)
        return refuse("no answer within " + std::to_string(kPluginTimeout.count() / 1000) + " seconds");
    if (!result) return refuse(result.error().message);
    if (result->exit_code != 0) {
        const std::string complaint = last_line(result->err);
        return refuse("exit code " + std::to_string(result->exit_code) +
                      (complaint.empty() ? "" : ": " + complaint));
    }
    auto issued = parse_exec_credential(result->out, plugin.api_version);
    if (!issued) return refuse(issued.error().message);
    if (issued->expires && *issued->expires <= clock_.wall_now())
        return refuse("the credential it gave has already expired");
    return issued;
}

}  // namespace k8sgpu::kube
