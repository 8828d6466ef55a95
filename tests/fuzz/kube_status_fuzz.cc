// What the API server (or a proxy before it) answers when it refuses: status, Retry-After and body.
#include "kube/transport.h"
#include "providers/kubernetes/create_errors.h"
#include "providers/kubernetes/exec_status.h"
#include "tests/fuzz/input.h"
#include "tests/fuzz/json_mutator.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace k8sgpu;
    const fuzz::Input input(data, size);
    const std::string body(input.rest());
    for (const int status : {400, 401, 403, 404, 409, 410, 422, 429, 500, 503}) {
        const Error error = kube::error_from_response(status, {{"retry-after", body.substr(0, 24)}}, body);
        fuzz::require(error.http_status == status && !error.message.empty(),
                      "an error has status and message");
        fuzz::require(!error.retry_after || (*error.retry_after > std::chrono::milliseconds::zero() &&
                                             *error.retry_after <= std::chrono::hours(1)),
                      "a wait is positive and at most an hour");
        static_cast<void>(providers::kubernetes::outcome_of_create_error(error, "remote pod"));
    }
    if (const auto ended = providers::kubernetes::parse_exec_status(body); ended)
        fuzz::require(ended->code >= 0 && ended->code <= 255, "an exit code is 0 to 255");
    return 0;
}
