// What a credential plugin prints.
#include "kube/internal/exec_credentials.h"
#include "tests/fuzz/input.h"
#include "tests/fuzz/json_mutator.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace k8sgpu;
    const fuzz::Input input(data, size);
    const auto issued = kube::parse_exec_credential(input.rest(), "client.authentication.k8s.io/v1");
    if (!issued) return 0;
    fuzz::require(!issued->token.empty() || !issued->client_cert.empty(), "a credential is one");
    fuzz::require(issued->token.find_first_of("\r\n") == std::string::npos, "a token is one line");
    return 0;
}
