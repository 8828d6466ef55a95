// Looks into PEM before TLS does, because its messages name neither the file nor the fault. Pure; any thread.
#pragma once

#include <string>

#include "common/result.h"

namespace k8sgpu::kube {

// Success when `pem` holds at least one X.509 certificate and no broken one.
Result<void> check_certificates(const std::string& pem);

// Success when `key_pem` is an unencrypted private key that belongs to the first certificate of `cert_pem`.
Result<void> check_key_pair(const std::string& cert_pem, const std::string& key_pem);

}  // namespace k8sgpu::kube
