#include "providers/kubernetes/names.h"

#include "common/encoding.h"
#include "providers/port/environment.h"

namespace k8sgpu::providers::kubernetes {
namespace {

constexpr std::size_t kMaxLabelValue = 63;

bool lower_or_digit(char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

bool letter_or_digit(char c) {
    return lower_or_digit(c) || (c >= 'A' && c <= 'Z');
}

bool dns_label(std::string_view text) {
    if (text.empty() || text.size() > 63) return false;
    for (const char c : text) {
        if (!lower_or_digit(c) && c != '-') return false;
    }
    return text.front() != '-' && text.back() != '-';
}

bool valid_label_value(std::string_view text) {
    if (text.empty() || text.size() > kMaxLabelValue) return false;
    for (const char c : text) {
        if (!letter_or_digit(c) && c != '-' && c != '_' && c != '.') return false;
    }
    return letter_or_digit(text.front()) && letter_or_digit(text.back());
}

std::string hash_of(std::string_view text, std::size_t digits) {
    return hex_encode(sha256(text)).substr(0, digits);
}

// At most `room` characters that may be followed by '-' in a DNS subdomain.
std::string beginning(std::string_view name, std::size_t room) {
    std::string_view head = name.substr(0, room);
    while (!head.empty() && (head.back() == '-' || head.back() == '.')) head.remove_suffix(1);
    return std::string(head);
}

}  // namespace

std::string remote_pod_name(const PodId& pod) {
    // UIDs are UUIDs today; Kubernetes promises only that they are unique text.
    const std::string uid = dns_label(pod.uid) ? pod.uid : hash_of(pod.uid, 32);
    const std::string head = beginning(pod.name, kMaxRemoteName - 1 - uid.size());
    return head.empty() ? uid : head + "-" + uid;
}

std::string copy_name(const OwnerMark& owner, LocalKind kind, std::string_view ns, std::string_view name) {
    // '/' occurs in none of the parts, so different sources give different texts.
    std::string identity = owner.cluster_uid + "/" + owner.node_name;
    identity += kind == LocalKind::Secret ? "/secret/" : "/configmap/";
    identity.append(ns).append("/").append(name);
    return beginning(name, kMaxRemoteName - 17) + "-" + hash_of(identity, 16);
}

std::string label_value(std::string_view text) {
    if (valid_label_value(text)) return std::string(text);
    std::string head;
    for (const char c : text.substr(0, kMaxLabelValue - 17)) {
        const bool allowed = letter_or_digit(c) || (!head.empty() && (c == '-' || c == '_' || c == '.'));
        if (allowed) head += c;
    }
    return head.empty() ? hash_of(text, 16) : head + "-" + hash_of(text, 16);
}

std::optional<std::string> remote_hostname(const Json& pod) {
    std::string name = pod_hostname(pod);
    if (!dns_label(name)) return std::nullopt;
    return name;
}

}  // namespace k8sgpu::providers::kubernetes
