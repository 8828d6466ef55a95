// The authorities whose client certificates identify callers: from a file (--client-ca-file), from ConfigMap
// kube-system/extension-apiserver-authentication (key client-ca-file), or from both together.
//
// Front-proxy headers (X-Remote-User …) are never trusted on this port, whatever the ConfigMap says of them.
//
// The pool is swapped as a whole and readers hold a snapshot, so a reload never disturbs a running
// verification. start() begins to follow the sources (a Reflector's thread for the ConfigMap, "client-ca" for
// the file's change time); stop() ends and joins. verify() may be called from any thread at any time; with
// an empty pool it refuses everything.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "common/clock.h"
#include "common/result.h"
#include "kube/api_client.h"

namespace k8sgpu::kubelet_api {

struct ClientCaOptions {
    std::string file = {};  // "" = none
    bool from_config_map =
        true;  // needs RoleBinding to kube-system/extension-apiserver-authentication-reader
    Duration file_check{10'000};
    // Told all authorities in force, as PEM, whenever they change: for TlsServerContext::set_client_ca().
    // Called on the following threads.
    std::function<void(const std::string& pem)> on_changed = {};
};

// Subject of a verified certificate.
struct CertificateSubject {
    std::string common_name;
    std::vector<std::string> organizations;
};

class ClientCa {
  public:
    // `client` may be null when from_config_map is false.
    ClientCa(Clock& clock, kube::ApiClient* client, ClientCaOptions options);
    ~ClientCa();

    // Reads the file once (Invalid or NotFound stop the start) and follows both sources from then on.
    Result<void> start();
    void stop();

    // True once some authority is known.
    bool loaded() const;

    // Verifies a chain (DER, leaf first) for clientAuth at wall time `now`. Unauthorized with OpenSSL's
    // reason otherwise.
    Result<CertificateSubject> verify(const std::vector<std::string>& chain, WallTime now) const;

    // Replaces what one source contributes; also what the followers call. Invalid keeps the former pool.
    Result<void> set_file_pem(const std::string& pem);
    Result<void> set_config_map_pem(const std::string& pem);

  private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace k8sgpu::kubelet_api
