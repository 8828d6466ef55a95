// Credentials from a plugin (KEP-541): run when first needed, kept until shortly before they expire, fetched
// again when the server refused them. While a refresh runs, a credential that has not expired yet goes on
// being used, so that a slow plugin delays nobody.
//
// Owned by Credentials. One thread, "kube-exec", runs the plugin; get() and reject() from any thread. Ends
// with its destructor, which kills a running plugin.
#pragma once

#include <condition_variable>
#include <functional>
#include <optional>
#include <string>

#include "common/call_context.h"
#include "common/guarded.h"
#include "common/thread.h"
#include "kube/client_config.h"

namespace k8sgpu::kube {

struct IssuedCredential {
    std::string token;
    std::string client_cert;
    std::string client_key;
    std::optional<WallTime> expires;
};

// What a plugin's standard output holds. Pure. Invalid says which field is wrong, never its value.
Result<IssuedCredential> parse_exec_credential(std::string_view output, const std::string& api_version);

// KUBERNETES_EXEC_INFO for that plugin. `ca_pem` is used only where the plugin asks for the cluster.
std::string exec_info(const ClientConfig& config, const std::string& ca_pem);

class ExecCredentials {
  public:
    // `read_ca` gives the PEM of the cluster's CA as it is now; called on kube-exec.
    ExecCredentials(ClientConfig config, Clock& clock, std::function<std::string()> read_ca);
    ~ExecCredentials();

    // Unauthorized when the plugin fails; the same failure is given for five seconds before it runs again.
    Result<IssuedCredential> get(const CallContext& ctx);
    // The server said 401 to the present credential. Ignored when the last rejection is under ten seconds
    // old: a server that refuses everything must not make us run the plugin in a circle.
    void reject();

  private:
    struct State {
        std::optional<IssuedCredential> current;
        std::optional<SteadyTime> issued_at;
        std::optional<Error> failure;
        SteadyTime failed_at{};
        std::optional<SteadyTime> rejected_at;
        bool rejected = false;
        bool wanted = false;
        bool stopping = false;
        std::uint64_t runs = 0;
    };
    enum class Freshness { Fresh, RefreshSoon, Unusable };
    Freshness freshness(const State& state) const;
    void loop(std::stop_token stop);
    Result<IssuedCredential> run_plugin(const CallContext& ctx);

    const ClientConfig config_;
    Clock& clock_;
    const std::function<std::string()> read_ca_;
    Guarded<State> state_;
    std::condition_variable_any changed_;
    Thread thread_;
};

}  // namespace k8sgpu::kube
