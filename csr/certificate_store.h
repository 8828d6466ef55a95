// Where the serving certificate and its key outlive the process. Two places: a directory in the kubelet's
// layout, and a Secret for agents without a disk.
//
// Called from the thread "csr" only. load() never trusts what it finds: the caller checks key, names and
// dates.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "common/call_context.h"
#include "common/result.h"
#include "kube/api_client.h"

namespace k8sgpu::csr {

struct StoredCertificate {
    std::string chain_pem;
    std::string key_pem;
};

class CertificateStore {
  public:
    virtual ~CertificateStore() = default;
    // nullopt when nothing was stored yet.
    virtual Result<std::optional<StoredCertificate>> load(const CallContext& ctx) = 0;
    // Replaces what was stored as a whole.
    virtual Result<void> save(const StoredCertificate& certificate, const CallContext& ctx) = 0;
    virtual std::string describe() const = 0;  // for logs: "directory /var/lib/…", "secret ns/name"
};

// kubelet-server-<time>.pem (0600: certificates, then the key) and the link kubelet-server-current.pem to the
// newest, replaced atomically; older files are removed but for one.
class DirectoryCertificateStore final : public CertificateStore {
  public:
    explicit DirectoryCertificateStore(std::string directory) : directory_(std::move(directory)) {}
    Result<std::optional<StoredCertificate>> load(const CallContext& ctx) override;
    Result<void> save(const StoredCertificate& certificate, const CallContext& ctx) override;
    std::string describe() const override { return "directory " + directory_; }

  private:
    std::string directory_;
};

// A Secret of type kubernetes.io/tls with tls.crt and tls.key, annotated with the node's name. A Secret that
// holds a key without our annotation is somebody else's and is neither read nor replaced. Needs get, create
// and update on it; where it exists already (empty), get and update are enough.
class SecretCertificateStore final : public CertificateStore {
  public:
    SecretCertificateStore(kube::ApiClient& client, std::string ns, std::string name, std::string node_name)
        : client_(client), ns_(std::move(ns)), name_(std::move(name)), node_name_(std::move(node_name)) {}
    Result<std::optional<StoredCertificate>> load(const CallContext& ctx) override;
    Result<void> save(const StoredCertificate& certificate, const CallContext& ctx) override;
    std::string describe() const override { return "secret " + ns_ + "/" + name_; }

    static constexpr std::string_view kNodeAnnotation = "k8s.gpu/serving-certificate-of";

  private:
    Result<void> check_owner(const Json& secret) const;
    kube::ApiClient& client_;
    std::string ns_, name_, node_name_;
};

}  // namespace k8sgpu::csr
