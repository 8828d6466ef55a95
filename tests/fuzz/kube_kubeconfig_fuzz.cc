// YAML, and kubeconfigs made of it.
#include "kube/internal/exec_credentials.h"
#include "kube/internal/yaml.h"
#include "kube/kubeconfig.h"
#include "tests/fuzz/input.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace k8sgpu;
    const fuzz::Input input(data, size);
    const std::string text(input.rest());
    if (const auto json = kube::parse_yaml(text); json) static_cast<void>(dump_json(*json));
    const fuzz::MemoryFile file(text);
    const auto config = kube::load_kubeconfig(file.path());
    if (!config) {
        fuzz::require(config.error().message.find('\n') == std::string::npos, "a message is one line");
        return 0;
    }
    fuzz::require(!config->server.empty(), "a config that loads names its server");
    if (config->exec) static_cast<void>(kube::exec_info(*config, "ca"));
    return 0;
}
