// Who signs the serving certificate: --csr-signer as a word of ours or as a full signer name.
// Plain values; any thread.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "common/result.h"

namespace k8sgpu::csr {

struct SignerChoice {
    std::string_view word;
    std::string_view name;
    std::string_view about;  // for --help
};

// The words that --csr-signer knows; for --help and for the error of signer_name().
const std::vector<SignerChoice>& signer_choices();

// The signerName for `option`: a word of the table, or a full name ("example.com/serving", the form that the
// API demands: a domain, one slash, a path). Invalid lists the choices.
Result<std::string> signer_name(std::string_view option);

}  // namespace k8sgpu::csr
