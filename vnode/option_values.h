// Checks of single option values: each takes the text into its target or says in one line what to write
// instead. Pure; any thread.
#pragma once

#include <cstdint>
#include <string>

#include "common/clock.h"
#include "common/result.h"

namespace k8sgpu::vnode {

Result<void> set_bool(bool& target, const std::string& text);
Result<void> set_port(std::uint16_t& target, const std::string& text);
Result<void> set_ip(std::string& target, const std::string& text);
// RFC 1123 subdomain, as Kubernetes demands of object names.
Result<void> set_object_name(std::string& target, const std::string& text);
// As Go writes them: "90s", "1m30s", "2h"; from 0 to a week.
Result<void> set_duration(Duration& target, const std::string& text);

}  // namespace k8sgpu::vnode
