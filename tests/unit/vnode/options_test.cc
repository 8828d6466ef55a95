#include "vnode/options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <map>

#include "common/file.h"

namespace k8sgpu::vnode {
namespace {

using ::testing::HasSubstr;

Result<Command> parse(const std::vector<std::string>& arguments,
                      const std::map<std::string, std::string>& variables = {}) {
    return parse_command_line(
        arguments,
        [&](const std::string& name) { return variables.contains(name) ? variables.at(name) : ""; }, "1.2.3");
}

std::string error_of(const std::vector<std::string>& arguments,
                     const std::map<std::string, std::string>& variables = {}) {
    const auto command = parse(arguments, variables);
    return command ? "" : command.error().message;
}

class ConfigFile {
  public:
    explicit ConfigFile(const std::string& content) {
        char name[] = "/tmp/k8sgpu-options-XXXXXX";
        const int fd = ::mkstemp(name);
        ::close(fd);
        path = name;
        std::ofstream(path) << content;
    }
    ~ConfigFile() { ::unlink(path.c_str()); }
    std::string path;
};

TEST(Options, Defaults_are_the_documented_ones) {
    const auto command = parse({});
    ASSERT_TRUE(command) << command.error().message;
    EXPECT_EQ(command->options.node_name, "k8s.gpu");
    EXPECT_EQ(command->options.remote_kubeconfig, "/tmp/client.kubeconfig");
    EXPECT_EQ(command->options.remote_namespace, "gpu");
    EXPECT_EQ(command->options.health_bind_address, ":8081");
    ASSERT_EQ(command->options.taints.size(), 1U);
    EXPECT_EQ(command->options.taints[0].key, "k8s.gpu/remote");
    EXPECT_TRUE(command->options.csr_approve);
}

TEST(Options, The_arguments_of_K8sGPUs_chart_are_accepted) {
    const auto command =
        parse({"--leader-elect", "--health-probe-bind-address=:8081", "--zap-devel",
               "--k8sgpu-tenant-name=acme", "--k8sgpu-namespace-name=gpu", "--csr-signer=aws"},
              {{"POD_IP", "10.0.0.7"}, {"POD_NAMESPACE", "kube-system"}});
    ASSERT_TRUE(command) << command.error().message;
    EXPECT_TRUE(command->options.leader_elect);
    EXPECT_EQ(command->options.tenant_name, "acme");
    EXPECT_EQ(command->options.csr_signer, "aws");
    EXPECT_EQ(command->options.node_ip, "10.0.0.7");
    EXPECT_EQ(command->options.log_level, LogLevel::Debug);
}

TEST(Options, A_switch_can_be_switched_off) {
    const auto command = parse({"--csr-approve=false", "--leader-elect=false"});
    ASSERT_TRUE(command) << command.error().message;
    EXPECT_FALSE(command->options.csr_approve);
    EXPECT_FALSE(command->options.leader_elect);
}

TEST(Options, Flags_win_over_the_environment_and_that_over_the_file) {
    const ConfigFile file("node-name: from-file\nport: 1\nlog-level: debug\n");
    const auto command =
        parse({"--config", file.path, "--port=3"}, {{"K8SGPU_PORT", "2"}, {"K8SGPU_NODE_NAME", "from-env"}});
    ASSERT_TRUE(command) << command.error().message;
    EXPECT_EQ(command->options.port, 3);
    EXPECT_EQ(command->options.node_name, "from-env");
    EXPECT_EQ(command->options.log_level, LogLevel::Debug);
}

TEST(Options, Mistakes_say_in_one_line_what_to_write_instead) {
    EXPECT_THAT(error_of({"--csr-singer=aws"}), HasSubstr("did you mean --csr-signer?"));
    EXPECT_THAT(error_of({"--csr-signer=azure"}), HasSubstr("kubelet"));
    EXPECT_THAT(error_of({"--port=70000"}), HasSubstr("1 to 65535"));
    EXPECT_THAT(error_of({"--provider=docker"}), HasSubstr("write kubernetes, process or simulated"));
    EXPECT_THAT(error_of({"--node-ip=node.example"}), HasSubstr("--node-ip"));
    EXPECT_THAT(error_of({"--node-name=K8S.GPU"}), HasSubstr("lower-case"));
    EXPECT_THAT(error_of({"--register-with-taints=a=b"}), HasSubstr("NoSchedule"));
    EXPECT_THAT(error_of({"--capacity=cpu=many"}), HasSubstr("not a quantity"));
    EXPECT_THAT(error_of({"--cert-dir=/x", "--cert-secret=y"}), HasSubstr("exclude each other"));
    EXPECT_THAT(error_of({"--remote-kubeconfig="}), HasSubstr("--provider=process"));
    EXPECT_THAT(error_of({"run"}), HasSubstr("run"));
    EXPECT_THAT(error_of({}, {{"K8SGPU_PORT", "x"}}), HasSubstr("K8SGPU_PORT"));
    EXPECT_THAT(error_of({"--config=/nonexistent"}), HasSubstr("/nonexistent"));
    const ConfigFile unknown("nodename: x\n");
    EXPECT_THAT(error_of({"--config", unknown.path}), HasSubstr("nodename: no such option"));
    const ConfigFile broken("node-name: [\n");
    EXPECT_THAT(error_of({"--config", broken.path}), HasSubstr(broken.path));
}

TEST(Options, An_empty_taint_list_gives_an_untainted_node) {
    const auto command = parse({"--register-with-taints="});
    ASSERT_TRUE(command) << command.error().message;
    EXPECT_TRUE(command->options.taints.empty());
}

TEST(Options, Help_and_version_are_text) {
    EXPECT_EQ(parse({"version"})->text, "k8sgpu 1.2.3\n");
    EXPECT_EQ(parse({"--version"})->text, "k8sgpu 1.2.3\n");
    EXPECT_THAT(parse({"--help"})->text, HasSubstr("--k8sgpu-tenant-name"));
}

// K8SGPU_UPDATE_DOCS=1 writes the page anew.
TEST(Options, The_documentation_page_is_the_table) {
    const std::string path = std::string(K8SGPU_SOURCE_DIR) + "/docs/options.md";
    if (std::getenv("K8SGPU_UPDATE_DOCS") != nullptr) {
        ASSERT_TRUE(replace_file(path, options_page(), 0644));
    }
    const auto page = read_file(path);
    ASSERT_TRUE(page) << page.error().message;
    EXPECT_EQ(*page, options_page());
}

TEST(Options, Bind_addresses_of_both_families) {
    EXPECT_EQ(*parse_bind_address(":8081"), (std::pair<std::string, std::uint16_t>("", 8081)));
    EXPECT_EQ(*parse_bind_address("[::1]:80"), (std::pair<std::string, std::uint16_t>("::1", 80)));
    EXPECT_FALSE(parse_bind_address("8081"));
    EXPECT_FALSE(parse_bind_address("host:80"));
}

}  // namespace
}  // namespace k8sgpu::vnode
