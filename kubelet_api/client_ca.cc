#include "kubelet_api/client_ca.h"

#include <fmt/format.h>
#include <openssl/x509_vfy.h>
#include <openssl/x509v3.h>

#include <atomic>
#include <chrono>

#include "common/file.h"
#include "common/guarded.h"
#include "common/log.h"
#include "common/thread.h"
#include "kube/reflector.h"
#include "net/openssl_ptr.h"

namespace k8sgpu::kubelet_api {

namespace {

constexpr std::string_view kNamespace = "kube-system";
constexpr std::string_view kConfigMap = "extension-apiserver-authentication";
constexpr std::string_view kKey = "client-ca-file";
constexpr std::size_t kMaxBytes = 1U << 20U;

using StorePtr = std::shared_ptr<X509_STORE>;

Result<StorePtr> make_pool(const std::string& pem) {
    auto certificates = net::parse_certificates(pem, "client CA");
    if (!certificates) return fail(certificates.error());
    StorePtr pool(X509_STORE_new(), X509_STORE_free);
    for (const net::X509Ptr& certificate : *certificates) {
        if (X509_STORE_add_cert(pool.get(), certificate.get()) != 1)
            return fail(ErrorKind::Invalid, "client CA: " + net::take_openssl_errors());
    }
    return pool;
}

net::X509Ptr parse_der(const std::string& der) {
    const auto* bytes = reinterpret_cast<const unsigned char*>(der.data());
    return net::X509Ptr(d2i_X509(nullptr, &bytes, static_cast<long>(der.size())));
}

std::string text_of(const ASN1_STRING* text) {
    unsigned char* bytes = nullptr;
    const int size = ASN1_STRING_to_UTF8(&bytes, text);
    if (size < 0) return {};
    std::string out(reinterpret_cast<const char*>(bytes), static_cast<std::size_t>(size));
    OPENSSL_free(bytes);
    return out;
}

CertificateSubject subject_of(const X509& certificate) {
    CertificateSubject subject;
    const X509_NAME* name = X509_get_subject_name(&certificate);
    for (int i = 0; i < X509_NAME_entry_count(name); ++i) {
        const X509_NAME_ENTRY* entry = X509_NAME_get_entry(name, i);
        const int nid = OBJ_obj2nid(X509_NAME_ENTRY_get_object(entry));
        std::string value = text_of(X509_NAME_ENTRY_get_data(entry));
        // Of several CNs the last counts, as in Go, so that both sides of a cluster see the same user.
        if (nid == NID_commonName) {
            subject.common_name = std::move(value);
        } else if (nid == NID_organizationName) {
            subject.organizations.push_back(std::move(value));
        }
    }
    return subject;
}

}  // namespace

struct ClientCa::Impl final : kube::ReflectorHandler {
    Impl(Clock& clock_, kube::ApiClient* client_, ClientCaOptions options_)
        : clock(clock_), client(client_), options(std::move(options_)) {}

    // ReflectorHandler, on the thread "watch-client-ca".
    void on_listed(std::vector<kube::ObjectPtr> objects) override {
        if (objects.empty()) {
            log().warn(
                "configmap {}/{} does not exist: client certificates are refused; give --client-ca-file",
                kNamespace, kConfigMap);
            return;
        }
        on_applied(objects.front());
    }
    void on_applied(kube::ObjectPtr object) override {
        const std::string pem = string_at(*object, {"data", kKey});
        if (auto set = replace(&Sources::config_map, pem); !set)
            log().warn("configmap {}/{}, key {}: {}; the former authorities stay in force", kNamespace,
                       kConfigMap, kKey, set.error().message);
    }
    // The authorities outlive the object: losing it must not lock out the API server.
    void on_deleted(kube::ObjectPtr /*object*/) override {}
    void on_error(const Error& error) override {
        if (said_error.exchange(true)) return;
        if (error.kind == ErrorKind::Forbidden) {
            log().warn(
                "no permission to read configmap {}/{}, so client certificates are refused and kubectl logs "
                "and "
                "exec fail: bind our user to role {}/extension-apiserver-authentication-reader with a "
                "RoleBinding in {} ({})",
                kNamespace, kConfigMap, kNamespace, kNamespace, error.message);
        } else {
            log().warn("reading configmap {}/{}: {}; trying again", kNamespace, kConfigMap, error.message);
        }
    }
    void on_recovered() override { said_error = false; }

    struct Sources {
        std::string file, config_map;
        StorePtr pool;
    };

    // Replaces one source and, when all of them still parse, the pool.
    Result<void> replace(std::string Sources::*source, const std::string& pem) {
        std::string all;
        {
            auto now = sources.lock();
            if ((*now).*source == pem) return {};
            const std::string& other = source == &Sources::file ? now->config_map : now->file;
            all = pem + "\n" + other;
            StorePtr pool;
            if (!pem.empty() || !other.empty()) {
                auto made = make_pool(all);
                if (!made) return fail(made.error());
                pool = std::move(*made);
            }
            now->pool = std::move(pool);
            (*now).*source = pem;
        }
        log().info("client certificate authorities were {}", pem.empty() ? "removed" : "loaded");
        if (options.on_changed) options.on_changed(all);
        return {};
    }

    Result<void> read_file_once() {
        auto pem = read_file(options.file, kMaxBytes);
        if (!pem) return fail(pem.error().with_context("client CA file"));
        if (auto set = replace(&Sources::file, *pem); !set)
            return fail(set.error().with_context("client CA file " + options.file));
        return {};
    }

    void follow_file(std::stop_token stop) {
        std::string last_error;
        while (clock.sleep_for(options.file_check, stop)) {
            auto read = read_file_once();
            const std::string error = read ? "" : read.error().message;
            if (!error.empty() && error != last_error)
                log().warn("{}; the former authorities stay in force", error);
            last_error = error;
        }
    }

    Clock& clock;
    kube::ApiClient* client;
    ClientCaOptions options;
    Guarded<Sources> sources;
    std::atomic<bool> said_error{false};
    std::unique_ptr<kube::Reflector> reflector;
    Thread file_thread;
};

ClientCa::ClientCa(Clock& clock, kube::ApiClient* client, ClientCaOptions options)
    : impl_(std::make_unique<Impl>(clock, client, std::move(options))) {}

ClientCa::~ClientCa() {
    stop();
}

Result<void> ClientCa::start() {
    if (!impl_->options.file.empty()) {
        if (auto read = impl_->read_file_once(); !read) return read;
        impl_->file_thread = Thread("client-ca", [this](std::stop_token stop) { impl_->follow_file(stop); });
    }
    if (impl_->options.from_config_map && impl_->client != nullptr) {
        kube::ReflectorOptions options;
        options.name = "client-ca";
        options.resource = kube::resources::kConfigMaps;
        options.ns = std::string(kNamespace);
        // The reader role grants this one object by name, which list and watch honour with this selector.
        options.field_selector = fmt::format("metadata.name={}", kConfigMap);
        impl_->reflector =
            std::make_unique<kube::Reflector>(*impl_->client, impl_->clock, std::move(options), *impl_);
        impl_->reflector->start();
    }
    return {};
}

void ClientCa::stop() {
    impl_->file_thread.stop();
    if (impl_->reflector) impl_->reflector->stop();
}

bool ClientCa::loaded() const {
    return impl_->sources.lock()->pool != nullptr;
}

Result<CertificateSubject> ClientCa::verify(const std::vector<std::string>& chain, WallTime now) const {
    const StorePtr pool = impl_->sources.lock()->pool;
    if (chain.empty()) return fail(ErrorKind::Unauthorized, "no client certificate");
    if (!pool) return fail(ErrorKind::Unauthorized, "no client certificate authority is known yet");

    const net::X509Ptr leaf = parse_der(chain.front());
    if (!leaf) return fail(ErrorKind::Unauthorized, "client certificate: " + net::take_openssl_errors());
    using StackPtr = std::unique_ptr<STACK_OF(X509), void (*)(STACK_OF(X509)*)>;
    const StackPtr others(sk_X509_new_null(), [](STACK_OF(X509) * s) { sk_X509_pop_free(s, X509_free); });
    for (std::size_t i = 1; i < chain.size(); ++i) {
        net::X509Ptr other = parse_der(chain[i]);
        if (other && sk_X509_push(others.get(), other.get()) > 0) (void)other.release();
    }

    const std::unique_ptr<X509_STORE_CTX, net::OpensslDelete<X509_STORE_CTX_free>> context(
        X509_STORE_CTX_new());
    if (!context || X509_STORE_CTX_init(context.get(), pool.get(), leaf.get(), others.get()) != 1)
        return fail(ErrorKind::Internal, "client certificate: " + net::take_openssl_errors());
    X509_VERIFY_PARAM* param = X509_STORE_CTX_get0_param(context.get());
    X509_VERIFY_PARAM_set_purpose(param, X509_PURPOSE_SSL_CLIENT);
    X509_VERIFY_PARAM_set_time(param, std::chrono::system_clock::to_time_t(now));
    // Every certificate of the bundle is an anchor, intermediates too, as in Go.
    X509_VERIFY_PARAM_set_flags(param, X509_V_FLAG_PARTIAL_CHAIN);
    if (X509_verify_cert(context.get()) != 1) {
        const char* why = X509_verify_cert_error_string(X509_STORE_CTX_get_error(context.get()));
        (void)net::take_openssl_errors();
        return fail(ErrorKind::Unauthorized, fmt::format("client certificate: {}", why));
    }
    return subject_of(*leaf);
}

Result<void> ClientCa::set_file_pem(const std::string& pem) {
    return impl_->replace(&Impl::Sources::file, pem);
}

Result<void> ClientCa::set_config_map_pem(const std::string& pem) {
    return impl_->replace(&Impl::Sources::config_map, pem);
}

}  // namespace k8sgpu::kubelet_api
