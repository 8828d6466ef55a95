// Certificate authorities and certificates for tests: P-256, valid for an hour, made in memory.
#pragma once

#include <memory>
#include <string>
#include <vector>

namespace k8sgpu::kube {

struct TestPair {
    std::string cert;  // PEM
    std::string key;
};

class TestCa {
  public:
    explicit TestCa(const std::string& name);
    ~TestCa();

    const std::string& cert() const { return pem_; }
    // `names` as in OpenSSL's subjectAltName: "DNS:a.example", "IP:127.0.0.1".
    TestPair issue(const std::string& common_name, const std::vector<std::string>& names = {}) const;

  private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
    std::string pem_;
};

}  // namespace k8sgpu::kube
