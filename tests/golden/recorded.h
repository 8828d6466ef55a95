// What a real API server and a real kubelet said to each other (README.md), read from this folder.
#pragma once

#include <gtest/gtest.h>

#include <string>

#include "common/file.h"
#include "net/http_head.h"

namespace k8sgpu::test {

// One side of a recorded connection: `name` as "1.36/exec-ws.client".
inline std::string recorded(const std::string& name) {
    auto bytes = read_file(std::string(K8SGPU_SOURCE_DIR) + "/tests/golden/" + name);
    EXPECT_TRUE(bytes) << name << ": " << (bytes ? "" : bytes.error().message);
    return bytes.value_or("");
}

struct RecordedRequest {
    net::HttpRequestHead head;
    std::string rest;  // the frames behind it
};
inline RecordedRequest recorded_request(const std::string& name) {
    const std::string bytes = recorded(name + ".client");
    std::size_t resume = 0;
    const auto end = net::find_head_end(bytes, &resume).value_or(0);
    auto head = net::parse_request_head(std::string_view(bytes).substr(0, end));
    EXPECT_TRUE(head) << name;
    return {head.value_or({}), bytes.substr(end)};
}

struct RecordedAnswer {
    std::string head;
    std::string rest;
};
inline RecordedAnswer recorded_answer(const std::string& name) {
    const std::string bytes = recorded(name + ".server");
    std::size_t resume = 0;
    const auto end = net::find_head_end(bytes, &resume).value_or(0);
    return {bytes.substr(0, end), bytes.substr(end)};
}

}  // namespace k8sgpu::test
