#include "csr/signer.h"

#include <fmt/format.h>

#include <algorithm>

namespace k8sgpu::csr {

namespace {

bool is_dns_label_text(std::string_view label) {
    const auto fits = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-'; };
    return !label.empty() && label.size() <= 63 && std::all_of(label.begin(), label.end(), fits) &&
           label.front() != '-' && label.back() != '-';
}

// certificates.k8s.io validation: a fully qualified domain of at least two labels, a slash, a path whose
// segments are DNS subdomains; 571 bytes at most.
bool is_full_name(std::string_view name) {
    const auto slash = name.find('/');
    if (slash == std::string_view::npos || name.size() > 571) return false;
    std::string_view domain = name.substr(0, slash);
    int labels = 0;
    while (true) {
        const auto dot = domain.find('.');
        if (!is_dns_label_text(domain.substr(0, dot))) return false;
        ++labels;
        if (dot == std::string_view::npos) break;
        domain.remove_prefix(dot + 1);
    }
    const std::string_view path = name.substr(slash + 1);
    const auto fits = [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.' || c == ':';
    };
    return labels >= 2 && !path.empty() && std::all_of(path.begin(), path.end(), fits);
}

}  // namespace

const std::vector<SignerChoice>& signer_choices() {
    static const std::vector<SignerChoice> choices = {
        {"kubelet", "kubernetes.io/kubelet-serving", "the cluster's own signer for kubelets"},
        {"aws", "beta.eks.amazonaws.com/app-serving",
         "on EKS, whose kubelet signer serves EC2 instances only"},
    };
    return choices;
}

Result<std::string> signer_name(std::string_view option) {
    std::string listed;
    for (const SignerChoice& choice : signer_choices()) {
        if (option == choice.word) return std::string(choice.name);
        listed += fmt::format("{} ({}), ", choice.word, choice.name);
    }
    if (is_full_name(option)) return std::string(option);
    return fail(ErrorKind::Invalid,
                fmt::format("unknown signer \"{}\": use {}or a full signer name such as example.com/serving",
                            option, listed));
}

}  // namespace k8sgpu::csr
