// PEM that others wrote: certificates of a signer, requests, private keys in files, CA bundles.
#include "csr/certificate_request.h"
#include "kube/internal/pem.h"
#include "net/openssl_ptr.h"
#include "tests/fuzz/input.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace k8sgpu;
    const fuzz::Input input(data, size);
    const std::string pem(input.rest());
    static_cast<void>(kube::check_certificates(pem));
    static_cast<void>(kube::check_key_pair(pem, pem));
    if (const auto chain = net::parse_certificates(pem, "bundle"); chain) {
        for (const auto& certificate : *chain) static_cast<void>(net::certificate_pem(*certificate));
    }
    if (const auto request = csr::parse_request(pem); request)
        fuzz::require(!request->public_key.empty(), "a request has a key");
    if (const auto certificate = csr::parse_certificates(pem); certificate) {
        const auto again = csr::parse_certificates(certificate->chain_pem);
        fuzz::require(again.has_value() && again->not_after == certificate->not_after, "a chain reads again");
    }
    if (const auto key = csr::KeyPair::from_pem(pem); key) static_cast<void>(key->public_key());
    return 0;
}
