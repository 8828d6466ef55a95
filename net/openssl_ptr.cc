#include "net/openssl_ptr.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <spdlog/fmt/fmt.h>

#include <limits>

namespace k8sgpu::net {

namespace {

BioPtr bio_over(std::string_view text) {
    if (text.size() > static_cast<std::size_t>(std::numeric_limits<int>::max())) return nullptr;
    return BioPtr(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
}

// Without this an encrypted key would make OpenSSL ask for a pass phrase on the terminal.
int no_passphrase(char*, int, int, void*) {
    return -1;
}

}  // namespace

std::string take_openssl_errors() {
    std::string text;
    while (const auto code = ERR_get_error()) {
        const char* reason = ERR_reason_error_string(code);
        if (!text.empty()) text += "; ";
        text += reason != nullptr ? std::string(reason) : fmt::format("error {:x}", code);
    }
    return text.empty() ? "unknown error" : text;
}

Result<std::vector<X509Ptr>> parse_certificates(std::string_view pem, std::string_view what) {
    ERR_clear_error();
    const auto bio = bio_over(pem);
    std::vector<X509Ptr> certificates;
    while (bio) {
        X509Ptr certificate(PEM_read_bio_X509(bio.get(), nullptr, no_passphrase, nullptr));
        if (!certificate) break;
        certificates.push_back(std::move(certificate));
    }
    const auto code = ERR_peek_last_error();
    if (ERR_GET_REASON(code) != PEM_R_NO_START_LINE && code != 0) {
        return fail(ErrorKind::Invalid, fmt::format("{}: certificate {} does not parse: {}", what,
                                                    certificates.size() + 1, take_openssl_errors()));
    }
    ERR_clear_error();
    if (certificates.empty()) {
        return fail(ErrorKind::Invalid, fmt::format("{}: no certificate in PEM form found", what));
    }
    return certificates;
}

Result<EvpPkeyPtr> parse_private_key(std::string_view pem, std::string_view what) {
    ERR_clear_error();
    const auto bio = bio_over(pem);
    EvpPkeyPtr key(bio ? PEM_read_bio_PrivateKey(bio.get(), nullptr, no_passphrase, nullptr) : nullptr);
    if (!key) {
        return fail(ErrorKind::Invalid, fmt::format("{}: no unencrypted private key in PEM form found: {}",
                                                    what, take_openssl_errors()));
    }
    return key;
}

std::string certificate_pem(const X509& certificate) {
    const BioPtr bio(BIO_new(BIO_s_mem()));
    if (!bio || PEM_write_bio_X509(bio.get(), &certificate) != 1) return {};
    char* data = nullptr;
    const auto size = BIO_get_mem_data(bio.get(), &data);
    return size > 0 ? std::string(data, static_cast<std::size_t>(size)) : std::string();
}

}  // namespace k8sgpu::net
