#include "csr/certificate_store.h"

#include <dirent.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <vector>

#include "common/encoding.h"
#include "common/file.h"
#include "common/log.h"

namespace k8sgpu::csr {

namespace {

constexpr std::string_view kPrefix = "kubelet-server-";
constexpr std::string_view kCurrent = "kubelet-server-current.pem";
constexpr std::string_view kUpdated = "kubelet-server-updated.pem";
constexpr std::size_t kMaxBytes = 1U << 20U;
constexpr int kAttempts = 3;

// The part of `pem` from its first private key block on, and what is before or after it.
StoredCertificate split(const std::string& pem) {
    const auto begin = pem.find("-----BEGIN");
    for (auto at = begin; at != std::string::npos; at = pem.find("-----BEGIN", at + 1)) {
        const auto line_end = pem.find('\n', at);
        const auto label = pem.substr(at, line_end == std::string::npos ? line_end : line_end - at);
        if (label.find("PRIVATE KEY") == std::string::npos) continue;
        auto end = pem.find("-----END", at);
        end = end == std::string::npos ? pem.size() : std::min(pem.size(), pem.find('\n', end));
        return {pem.substr(0, at) + pem.substr(std::min(pem.size(), end + 1)),
                pem.substr(at, end - at) + "\n"};
    }
    return {pem, ""};
}

// "kubelet-server-2026-11-22-21-40-53.pem", UTC as the kubelet's.
std::string file_name(WallTime now) {
    std::string stamp = rfc3339_seconds(now);  // 2026-11-22T21:40:53Z
    stamp.pop_back();
    std::replace(stamp.begin(), stamp.end(), 'T', '-');
    std::replace(stamp.begin(), stamp.end(), ':', '-');
    return fmt::format("{}{}.pem", kPrefix, stamp);
}

// Keeps `current` and the newest other file, which an administrator may want to look at.
void remove_old_files(const std::string& directory, const std::string& current) {
    std::vector<std::string> old;
    if (DIR* dir = opendir(directory.c_str())) {
        while (const dirent* entry = readdir(dir)) {
            const std::string_view name = entry->d_name;
            const bool dated = name.size() == kPrefix.size() + 23 && name.starts_with(kPrefix) &&
                               name.ends_with(".pem") && name[kPrefix.size()] == '2';
            if (dated && name != current) old.emplace_back(name);
        }
        closedir(dir);
    }
    std::sort(old.begin(), old.end());
    if (!old.empty()) old.pop_back();
    for (const std::string& name : old) unlink((directory + "/" + name).c_str());
}

}  // namespace

Result<std::optional<StoredCertificate>> DirectoryCertificateStore::load(const CallContext& /*ctx*/) {
    const std::string path = fmt::format("{}/{}", directory_, kCurrent);
    auto text = read_trusted_file(path, kMaxBytes);
    if (!text && text.error().kind == ErrorKind::NotFound) return std::optional<StoredCertificate>();
    if (!text) return fail(text.error());
    return std::optional(split(*text));
}

Result<void> DirectoryCertificateStore::save(const StoredCertificate& certificate, const CallContext& ctx) {
    if (auto made = ensure_directory(directory_); !made) return made;
    const std::string name = file_name(ctx.clock().wall_now());
    const std::string path = directory_ + "/" + name;
    if (auto written = replace_file(path, certificate.chain_pem + certificate.key_pem, 0600); !written)
        return written;
    const std::string updated = fmt::format("{}/{}", directory_, kUpdated);
    const std::string current = fmt::format("{}/{}", directory_, kCurrent);
    unlink(updated.c_str());
    if (symlink(name.c_str(), updated.c_str()) != 0)
        return fail(error_from_errno(errno, "linking " + updated));
    if (rename(updated.c_str(), current.c_str()) != 0)
        return fail(error_from_errno(errno, "renaming " + updated));
    remove_old_files(directory_, name);
    return {};
}

Result<void> SecretCertificateStore::check_owner(const Json& secret) const {
    const std::string owner = string_at(secret, {"metadata", "annotations", kNodeAnnotation});
    const bool holds_key = !string_at(secret, {"data", "tls.key"}).empty();
    if (owner == node_name_ || (owner.empty() && !holds_key)) return {};
    return fail(
        ErrorKind::Invalid,
        fmt::format("secret {}/{} {}; name another secret for node {}, or delete this one", ns_, name_,
                    owner.empty() ? "holds a key that is not ours" : "belongs to node " + owner, node_name_));
}

Result<std::optional<StoredCertificate>> SecretCertificateStore::load(const CallContext& ctx) {
    auto secret = client_.get(kube::resources::kSecrets, ns_, name_, ctx);
    if (!secret && secret.error().kind == ErrorKind::NotFound) return std::optional<StoredCertificate>();
    if (!secret) return fail(secret.error());
    if (auto ours = check_owner(*secret); !ours) return fail(ours.error());
    auto chain = base64_decode(string_at(*secret, {"data", "tls.crt"}));
    auto key = base64_decode(string_at(*secret, {"data", "tls.key"}));
    if (!chain || !key) return fail(ErrorKind::Invalid, fmt::format("{} is not base64", describe()));
    if (chain->empty() && key->empty()) return std::optional<StoredCertificate>();
    return std::optional(StoredCertificate{std::move(*chain), std::move(*key)});
}

Result<void> SecretCertificateStore::save(const StoredCertificate& certificate, const CallContext& ctx) {
    const Json data = {{"tls.crt", base64_encode(certificate.chain_pem)},
                       {"tls.key", base64_encode(certificate.key_pem)}};
    Error last;
    for (int attempt = 0; attempt < kAttempts; ++attempt) {
        auto secret = client_.get(kube::resources::kSecrets, ns_, name_, ctx);
        Result<Json> written = fail(ErrorKind::Internal, "");
        if (secret) {
            if (auto ours = check_owner(*secret); !ours) return ours;
            (*secret)["data"]["tls.crt"] = data["tls.crt"];
            (*secret)["data"]["tls.key"] = data["tls.key"];
            (*secret)["metadata"]["annotations"][std::string(kNodeAnnotation)] = node_name_;
            written = client_.replace(kube::resources::kSecrets, ns_, name_, *secret, ctx);
        } else if (secret.error().kind == ErrorKind::NotFound) {
            const Json fresh = {
                {"apiVersion", "v1"},
                {"kind", "Secret"},
                {"metadata",
                 {{"name", name_}, {"namespace", ns_}, {"annotations", {{kNodeAnnotation, node_name_}}}}},
                {"type", "kubernetes.io/tls"},
                {"data", data}};
            written = client_.create(kube::resources::kSecrets, ns_, fresh, ctx);
        } else {
            return fail(secret.error());
        }
        if (written) return {};
        last = written.error();
        // Somebody wrote between our read and our write: look again.
        if (last.kind != ErrorKind::Conflict && last.kind != ErrorKind::AlreadyExists) break;
    }
    return fail(std::move(last));
}

}  // namespace k8sgpu::csr
