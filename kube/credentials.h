// Who we are towards one API server, as of now: bearer token (fixed, by file, by plugin), user and password,
// client certificate. Files are read again every ten seconds, because tokens and certificates rotate on disk;
// a file that vanishes or breaks for a moment leaves the last good content in use.
//
// Owned by CurlTransport; any thread. Secrets are never logged.
#pragma once

#include <memory>
#include <string>

#include "common/call_context.h"
#include "common/guarded.h"
#include "kube/client_config.h"

namespace k8sgpu::kube {

struct Credential {
    std::string authorization;  // value of the header, "" for none
    std::string client_cert;    // PEM, "" for none
    std::string client_key;
    std::uint64_t version = 0;  // another number whenever anything above changed
};

// A file whose content is used for a while before it is read again.
class RefreshedFile {
  public:
    RefreshedFile(std::string path, bool trusted_only)
        : path_(std::move(path)), trusted_only_(trusted_only) {}

    // The content; the last good one while the file cannot be read.
    Result<std::string> get(Clock& clock);
    void expire() { state_.lock()->read_at.reset(); }  // the next get() reads the file

  private:
    struct State {
        std::optional<std::string> content;
        std::optional<SteadyTime> read_at;
        bool complained = false;
    };
    const std::string path_;
    const bool trusted_only_;
    Guarded<State> state_;
};

class ExecCredentials;

class Credentials {
  public:
    Credentials(const ClientConfig& config, Clock& clock);
    ~Credentials();

    // Unauthorized when a plugin fails, NotFound/Forbidden/Invalid for a file that was never good.
    Result<Credential> get(const CallContext& ctx);

    // The server answered 401 to `version`: files are read and the plugin is run again by the next get(). It
    // is worth asking the server again only when that gives another version.
    void reject(std::uint64_t version);

    // PEM of the CAs to trust; "" = the system's.
    Result<std::string> ca();

  private:
    Result<std::string> read(const PemSource& source, std::unique_ptr<RefreshedFile>& file);
    Result<std::string> authorization(const std::string& issued_token);
    Result<void> add_certificate(Credential& credential);

    const ClientConfig config_;
    Clock& clock_;
    std::unique_ptr<RefreshedFile> token_file_, cert_file_, key_file_, ca_file_;
    Guarded<Credential> last_;
    std::unique_ptr<ExecCredentials> exec_;  // last: its thread uses the rest
};

}  // namespace k8sgpu::kube
