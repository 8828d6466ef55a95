// YAML as JSON, so that one set of readers serves both. Plain scalars become null, booleans and numbers as
// the JSON schema of YAML 1.2 has them; quoted ones stay text. Aliases are expanded. Pure; any thread.
#pragma once

#include <string>

#include "common/json.h"

namespace k8sgpu::kube {

// The first document; null for an empty text. Invalid with line and column on a syntax error, on a key that
// stands twice, and beyond 64 levels or 100000 values (aliases can multiply).
Result<Json> parse_yaml(const std::string& text);

}  // namespace k8sgpu::kube
