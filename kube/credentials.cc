#include "kube/credentials.h"

#include <algorithm>

#include "common/encoding.h"
#include "common/file.h"
#include "common/log.h"
#include "kube/internal/exec_credentials.h"
#include "kube/internal/pem.h"

namespace k8sgpu::kube {
namespace {

constexpr std::chrono::seconds kFileAge{10};
constexpr std::size_t kMaxFile = 1U << 20U;

std::string trimmed(const std::string& text) {
    const auto first = text.find_first_not_of(" \t\r\n");
    if (first == std::string::npos) return "";
    return text.substr(first, text.find_last_not_of(" \t\r\n") - first + 1);
}

bool fits_into_a_header(const std::string& text) {
    return std::none_of(text.begin(), text.end(),
                        [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; });
}

std::unique_ptr<RefreshedFile> file_of(const std::string& path, const ClientConfig& config) {
    return path.empty() ? nullptr : std::make_unique<RefreshedFile>(path, config.trusted_files_only);
}

}  // namespace

Result<std::string> RefreshedFile::get(Clock& clock) {
    auto state = state_.lock();
    const SteadyTime now = clock.now();
    if (state->content && state->read_at && now < *state->read_at + kFileAge) return *state->content;
    auto content = trusted_only_ ? read_trusted_file(path_, kMaxFile) : read_file(path_, kMaxFile);
    if (content) {
        state->content = std::move(*content);
        state->read_at = now;
        state->complained = false;
        return *state->content;
    }
    if (!state->content) return fail(content.error());
    if (!state->complained) log().warn("{}; its last content stays in use", content.error().message);
    state->complained = true;
    state->read_at = now;
    return *state->content;
}

Credentials::Credentials(const ClientConfig& config, Clock& clock)
    : config_(config),
      clock_(clock),
      token_file_(file_of(config.token_file, config)),
      cert_file_(file_of(config.client_cert.pem.empty() ? config.client_cert.file : "", config)),
      key_file_(file_of(config.client_key.pem.empty() ? config.client_key.file : "", config)),
      ca_file_(file_of(config.ca.pem.empty() ? config.ca.file : "", config)) {
    // What is written down wins over a plugin, as in client-go.
    const bool fixed = !config.token.empty() || !config.token_file.empty() || !config.username.empty();
    if (config.exec && !fixed)
        exec_ = std::make_unique<ExecCredentials>(config_, clock, [this] { return ca().value_or(""); });
}

Credentials::~Credentials() = default;

Result<std::string> Credentials::read(const PemSource& source, std::unique_ptr<RefreshedFile>& file) {
    if (file == nullptr) return source.pem;
    return file->get(clock_);
}

Result<std::string> Credentials::ca() {
    auto pem = read(config_.ca, ca_file_);
    if (!pem) return fail(pem.error().with_context("certificate-authority"));
    if (pem->empty()) return pem;
    if (auto fine = check_certificates(*pem); !fine)
        return fail(fine.error().with_context("certificate-authority " + config_.ca.file));
    return pem;
}

Result<std::string> Credentials::authorization(const std::string& issued_token) {
    std::string token = issued_token;
    if (token_file_ != nullptr) {
        auto content = token_file_->get(clock_);
        if (!content && config_.token.empty()) return fail(content.error().with_context("token file"));
        token = content ? trimmed(*content) : config_.token;
        if (token.empty())
            return fail(ErrorKind::Unauthorized, "token file " + config_.token_file + " is empty");
    } else if (!config_.token.empty()) {
        token = config_.token;
    }
    if (!fits_into_a_header(token))
        return fail(ErrorKind::Invalid, "the token holds line breaks or control characters");
    if (!token.empty()) return "Bearer " + token;
    if (!config_.username.empty()) return "Basic " + base64_encode(config_.username + ":" + config_.password);
    return std::string();
}

Result<void> Credentials::add_certificate(Credential& credential) {
    if (config_.client_cert.empty()) return {};
    auto cert = read(config_.client_cert, cert_file_);
    if (!cert) return fail(cert.error().with_context("client-certificate"));
    auto key = read(config_.client_key, key_file_);
    if (!key) return fail(key.error().with_context("client-key"));
    {
        auto last = last_.lock();
        if (last->client_cert == *cert && last->client_key == *key) {
            credential.client_cert = std::move(*cert);
            credential.client_key = std::move(*key);
            return {};
        }
    }
    if (auto fine = check_key_pair(*cert, *key); !fine) {
        // Certificate and key are two files: between the two writes of a rotation they do not match.
        auto last = last_.lock();
        if (last->client_cert.empty())
            return fail(fine.error().with_context("client-certificate " + config_.client_cert.file));
        credential.client_cert = last->client_cert;
        credential.client_key = last->client_key;
        return {};
    }
    credential.client_cert = std::move(*cert);
    credential.client_key = std::move(*key);
    return {};
}

Result<Credential> Credentials::get(const CallContext& ctx) {
    Credential credential;
    std::string issued_token;
    if (exec_ != nullptr) {
        auto issued = exec_->get(ctx);
        if (!issued) return fail(issued.error());
        issued_token = issued->token;
        credential.client_cert = issued->client_cert;
        credential.client_key = issued->client_key;
    }
    auto header = authorization(issued_token);
    if (!header) return fail(header.error());
    credential.authorization = std::move(*header);
    if (credential.client_cert.empty()) {
        if (auto added = add_certificate(credential); !added) return fail(added.error());
    }
    auto last = last_.lock();
    const bool same = last->version != 0 && last->authorization == credential.authorization &&
                      last->client_cert == credential.client_cert &&
                      last->client_key == credential.client_key;
    credential.version = same ? last->version : last->version + 1;
    *last = credential;
    return credential;
}

void Credentials::reject(std::uint64_t version) {
    if (last_.lock()->version != version) return;  // somebody has renewed it already
    for (const auto* file : {&token_file_, &cert_file_, &key_file_}) {
        if (*file != nullptr) (*file)->expire();
    }
    if (exec_ != nullptr) exec_->reject();
}

}  // namespace k8sgpu::kube
