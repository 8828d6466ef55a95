// The kubelet's --tls-cipher-suites in OpenSSL's words. Pure; any thread.
#pragma once

#include <string>
#include <string_view>

#include "common/result.h"

namespace k8sgpu::kubelet_api {

// From IANA names as Go and the kubelet write them, separated by commas
// ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,…"), to an OpenSSL cipher list for TLS 1.2. Suites of TLS 1.3 are
// taken and have no effect, as at the kubelet: the library chooses among those. "" for "", and for suites of
// TLS 1.3 alone. Invalid names the suite that does not exist or that no kubelet offers.
Result<std::string> openssl_cipher_list(std::string_view iana_names);

}  // namespace k8sgpu::kubelet_api
