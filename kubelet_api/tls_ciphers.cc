#include "kubelet_api/tls_ciphers.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

namespace k8sgpu::kubelet_api {

namespace {

struct Suite {
    std::string_view iana, openssl;  // "" = TLS 1.3
};

// What Go knows and Debian's OpenSSL still offers; names of the kubelet's own help.
constexpr std::array kSuites = {
    Suite{"TLS_AES_128_GCM_SHA256", ""},
    Suite{"TLS_AES_256_GCM_SHA384", ""},
    Suite{"TLS_CHACHA20_POLY1305_SHA256", ""},
    Suite{"TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA", "ECDHE-ECDSA-AES128-SHA"},
    Suite{"TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256", "ECDHE-ECDSA-AES128-SHA256"},
    Suite{"TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", "ECDHE-ECDSA-AES128-GCM-SHA256"},
    Suite{"TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA", "ECDHE-ECDSA-AES256-SHA"},
    Suite{"TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", "ECDHE-ECDSA-AES256-GCM-SHA384"},
    Suite{"TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305", "ECDHE-ECDSA-CHACHA20-POLY1305"},
    Suite{"TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", "ECDHE-ECDSA-CHACHA20-POLY1305"},
    Suite{"TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA", "ECDHE-RSA-AES128-SHA"},
    Suite{"TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256", "ECDHE-RSA-AES128-SHA256"},
    Suite{"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "ECDHE-RSA-AES128-GCM-SHA256"},
    Suite{"TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA", "ECDHE-RSA-AES256-SHA"},
    Suite{"TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", "ECDHE-RSA-AES256-GCM-SHA384"},
    Suite{"TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305", "ECDHE-RSA-CHACHA20-POLY1305"},
    Suite{"TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", "ECDHE-RSA-CHACHA20-POLY1305"},
    Suite{"TLS_RSA_WITH_AES_128_CBC_SHA", "AES128-SHA"},
    Suite{"TLS_RSA_WITH_AES_128_CBC_SHA256", "AES128-SHA256"},
    Suite{"TLS_RSA_WITH_AES_128_GCM_SHA256", "AES128-GCM-SHA256"},
    Suite{"TLS_RSA_WITH_AES_256_CBC_SHA", "AES256-SHA"},
    Suite{"TLS_RSA_WITH_AES_256_GCM_SHA384", "AES256-GCM-SHA384"},
};

std::string_view trimmed(std::string_view text) {
    while (text.starts_with(' ')) text.remove_prefix(1);
    while (text.ends_with(' ')) text.remove_suffix(1);
    return text;
}

}  // namespace

Result<std::string> openssl_cipher_list(std::string_view iana_names) {
    std::string list;
    while (!iana_names.empty()) {
        const std::string_view name = trimmed(iana_names.substr(0, iana_names.find(',')));
        iana_names.remove_prefix(std::min(iana_names.size(), iana_names.find(',')));
        if (!iana_names.empty()) iana_names.remove_prefix(1);
        const auto suite =
            std::find_if(kSuites.begin(), kSuites.end(), [&](const Suite& one) { return one.iana == name; });
        if (suite == kSuites.end())
            return fail(
                ErrorKind::Invalid,
                fmt::format("cipher suite \"{}\" is not supported or does not exist; write names such as "
                            "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, separated by commas",
                            name));
        if (suite->openssl.empty()) continue;
        if (!list.empty()) list += ':';
        list += suite->openssl;
    }
    return list;
}

}  // namespace k8sgpu::kubelet_api
