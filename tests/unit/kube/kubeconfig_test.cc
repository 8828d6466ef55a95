#include "kube/kubeconfig.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/encoding.h"
#include "tests/unit/kube/temp_dir.h"
#include "tests/unit/kube/test_pki.h"

namespace k8sgpu::kube {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

constexpr const char* kGood = R"(
apiVersion: v1
kind: Config
current-context: dev
clusters:
- name: c1
  cluster:
    server: https://10.0.0.1:6443
    certificate-authority: pki/ca.crt
    tls-server-name: api.example
    proxy-url: http://proxy:3128
- name: c2
  cluster: {server: "https://[fd00::1]/k8s/clusters/c-1/", insecure-skip-tls-verify: true}
contexts:
- name: dev
  context: {cluster: c1, user: alice, namespace: team}
- name: other
  context: {cluster: c2, user: basic}
users:
- name: alice
  user: {tokenFile: ../token}
- name: basic
  user: {username: bob, password: "123", as: carol, as-groups: [a, b], as-user-extra: {k/x: [v]}}
)";

class KubeconfigTest : public testing::Test {
  protected:
    // The message of loading one cluster, user and context with these fields.
    std::string refusal(const std::string& cluster, const std::string& user) {
        const std::string file = dir.write("broken",
                                           "current-context: x\n"
                                           "clusters: [{name: c, cluster: {" +
                                               cluster +
                                               "}}]\n"
                                               "users: [{name: u, user: {" +
                                               user +
                                               "}}]\n"
                                               "contexts: [{name: x, context: {cluster: c, user: u}}]\n");
        const auto config = load_kubeconfig(file);
        return config ? "no error" : config.error().message;
    }
    TempDir dir;
};

TEST_F(KubeconfigTest, Existing_file_with_a_colon_in_its_name_is_one_path) {
    const std::string file = dir.write("system:node:x.kubeconfig", kGood);
    EXPECT_TRUE(load_kubeconfig(file, {.context = "other", .trusted_only = false}));
}

TEST_F(KubeconfigTest, Resolves_the_current_context_with_paths_relative_to_the_file) {
    const std::string file = dir.write("sub/config", kGood);
    const auto config = load_kubeconfig(file);
    ASSERT_TRUE(config) << config.error().message;
    EXPECT_EQ(config->server, "https://10.0.0.1:6443");
    EXPECT_EQ(config->ca.file, dir.path("sub/pki/ca.crt"));
    EXPECT_EQ(config->token_file, dir.path("token"));
    EXPECT_EQ(config->tls_server_name, "api.example");
    EXPECT_EQ(config->proxy_url, "http://proxy:3128");
    EXPECT_EQ(config->ns, "team");
    EXPECT_EQ(config->origin, "context \"dev\" of " + file);
}

TEST_F(KubeconfigTest, A_named_context_wins_over_the_current_one) {
    const std::string file = dir.write("config", kGood);
    const auto config = load_kubeconfig(file, {.context = "other", .trusted_only = false});
    ASSERT_TRUE(config) << config.error().message;
    EXPECT_TRUE(config->insecure_skip_tls_verify);
    EXPECT_EQ(config->username, "bob");
    EXPECT_EQ(config->password, "123");
    EXPECT_EQ(config->impersonation.find("impersonate-user")->second, "carol");
    EXPECT_EQ(config->impersonation.count("impersonate-group"), 2U);
    EXPECT_EQ(config->impersonation.find("impersonate-extra-k%2Fx")->second, "v");
    const auto address = parse_server_url(config->server);
    ASSERT_TRUE(address);
    EXPECT_EQ(address->host_port(), "[fd00::1]:443");
    EXPECT_EQ(address->prefix, "/k8s/clusters/c-1");
}

TEST_F(KubeconfigTest, In_a_list_the_first_file_that_says_something_wins) {
    const std::string first = dir.write("one/first", R"(
contexts: [{name: dev, context: {cluster: c1, user: alice, namespace: from-first}}]
users: [{name: alice, user: {tokenFile: t}}])");
    const std::string second = dir.write("two/second", kGood);
    const auto config = load_kubeconfig(dir.path("missing") + ":" + first + "::" + second);
    ASSERT_TRUE(config) << config.error().message;
    EXPECT_EQ(config->ns, "from-first");
    EXPECT_EQ(config->token_file, dir.path("one/t"));
    EXPECT_EQ(config->ca.file, dir.path("two/pki/ca.crt"));

    const auto none = load_kubeconfig(dir.path("a") + ":" + dir.path("b"));
    ASSERT_FALSE(none);
    EXPECT_EQ(none.error().kind, ErrorKind::NotFound);
}

TEST_F(KubeconfigTest, Inline_certificates_are_decoded_and_checked) {
    const TestCa ca("ca");
    const TestCa other("other");
    const TestPair client = ca.issue("alice");
    const auto data = [](const std::string& pem) { return base64_encode(pem); };
    const std::string good = dir.write(
        "config",
        "current-context: x\nclusters: [{name: c, cluster: {server: 'https://h', "
        "certificate-authority-data: " +
            data(ca.cert()) + "}}]\nusers: [{name: u, user: {client-certificate-data: " + data(client.cert) +
            ", client-key-data: " + data(client.key) +
            "}}]\ncontexts: [{name: x, context: {cluster: c, user: u}}]\n");
    const auto config = load_kubeconfig(good);
    ASSERT_TRUE(config) << config.error().message;
    EXPECT_EQ(config->ca.pem, ca.cert());
    EXPECT_EQ(config->client_key.pem, client.key);

    EXPECT_THAT(refusal("server: https://h, certificate-authority-data: '%%'", ""),
                HasSubstr("cluster \"c\": certificate-authority-data: must be base64"));
    EXPECT_THAT(refusal("server: https://h, certificate-authority-data: aGVsbG8=", ""),
                HasSubstr("certificate-authority-data: no certificate in PEM form"));
    EXPECT_THAT(refusal("server: https://h", "client-certificate-data: " + data(client.cert) +
                                                 ", client-key-data: " + data(other.issue("b").key)),
                HasSubstr("user \"u\": client-certificate-data: the private key does not belong"));
    EXPECT_THAT(refusal("server: https://h", "client-certificate-data: " + data(client.cert)),
                HasSubstr("client-key: is missing"));
}

TEST_F(KubeconfigTest, Exec_plugins_are_read_in_full) {
    const std::string file = dir.write("sub/config", R"(
current-context: x
clusters:
- name: c
  cluster:
    server: https://h
    extensions: [{name: client.authentication.k8s.io/exec, extension: {audience: aud, n: 1}}]
contexts: [{name: x, context: {cluster: c, user: u}}]
users:
- name: u
  user:
    exec:
      apiVersion: client.authentication.k8s.io/v1beta1
      command: ./bin/get-token
      args: [eks, get-token, "--cluster-name", "x"]
      env: [{name: AWS_PROFILE, value: dev}]
      installHint: install it
      interactiveMode: IfAvailable
      provideClusterInfo: true
)");
    const auto config = load_kubeconfig(file);
    ASSERT_TRUE(config) << config.error().message;
    ASSERT_TRUE(config->exec);
    EXPECT_EQ(config->exec->command, dir.path("sub/bin/get-token"));
    EXPECT_EQ(config->exec->args.size(), 4U);
    EXPECT_EQ(config->exec->env.at(0).second, "dev");
    EXPECT_EQ(config->exec->install_hint, "install it");
    EXPECT_TRUE(config->exec->provide_cluster_info);
    EXPECT_EQ(config->exec->cluster_config, Json::parse(R"({"audience":"aud","n":1})"));
}

TEST_F(KubeconfigTest, Every_refusal_is_one_line_with_file_entry_field_and_way_out) {
    const std::string cluster = "server: https://h";
    const std::pair<std::string, std::string> cases[] = {
        {refusal("", ""), "server: is missing; write https://HOST:PORT"},
        {refusal("server: 10.0.0.1", ""), "server: \"10.0.0.1\" has no scheme; write https://HOST:PORT"},
        {refusal("server: ftp://x", ""), "scheme ftp is not supported"},
        {refusal("server: 'https://h:99999'", ""), "not a URL"},
        {refusal("server: [a]", ""), "server: must be text"},
        {refusal(cluster + ", insecure-skip-tls-verify: maybe", ""), "must be true or false"},
        {refusal(cluster + ", insecure-skip-tls-verify: true, certificate-authority: x", ""),
         "contradicts certificate-authority"},
        {refusal(cluster + ", proxy-url: 'ftp://p'", ""), "proxy-url: must begin with"},
        {refusal(cluster, "token: 12345"), "token: must be text; put it in quotes"},
        {refusal(cluster, "token: abc, username: u"), "username: contradicts token"},
        {refusal(cluster, "auth-provider: {name: gcp}"),
         "auth-provider: was removed from Kubernetes in 1.26; use an exec plugin"},
        {refusal(cluster, "exec: {command: x, apiVersion: client.authentication.k8s.io/v1alpha1}"),
         "supported are"},
        {refusal(cluster, "exec: {apiVersion: client.authentication.k8s.io/v1}"), "exec.command: is missing"},
        {refusal(cluster,
                 "exec: {command: x, apiVersion: client.authentication.k8s.io/v1, interactiveMode: Always}"),
         "exec.interactiveMode: is Always, but a daemon has no terminal"},
        {refusal(
             cluster,
             "exec: {command: x, apiVersion: client.authentication.k8s.io/v1, env: [{name: A=B, value: c}]}"),
         "exec.env: every entry needs"},
        {refusal(cluster, "exec: nope"), "exec: must be a mapping"},
    };
    for (const auto& [message, expected] : cases) {
        EXPECT_THAT(message, AllOf(HasSubstr(expected), HasSubstr(dir.path("broken")), Not(HasSubstr("\n"))));
    }
    EXPECT_THAT(refusal(cluster, "token: 918273645"), Not(HasSubstr("918273645")));
}

TEST_F(KubeconfigTest, Broken_structure_is_named) {
    const auto message = [&](const std::string& text) {
        const auto config = load_kubeconfig(dir.write("config", text));
        return config ? "no error" : config.error().message;
    };
    EXPECT_THAT(message("a: [1"), HasSubstr("line"));
    EXPECT_THAT(message("- just a list"), HasSubstr("not a kubeconfig"));
    EXPECT_THAT(message("kind: Pod"), HasSubstr("expected kind: Config"));
    EXPECT_THAT(message(""), HasSubstr("no current-context"));
    EXPECT_THAT(message("current-context: x"), HasSubstr("context \"x\" does not exist; there is none"));
    EXPECT_THAT(message("current-context: x\ncontexts: [{name: y}]"), HasSubstr("there is: y"));
    EXPECT_THAT(message("current-context: x\ncontexts: [{name: x, context: {cluster: gone}}]"),
                HasSubstr("context \"x\": cluster: \"gone\" does not exist"));
    EXPECT_THAT(message("contexts: [{name: x}, {name: x}]"), HasSubstr("context \"x\": stands twice"));
    EXPECT_THAT(message("contexts: 5"), HasSubstr("contexts: must be a list"));
    EXPECT_THAT(message("contexts: [{}]"), HasSubstr("an entry has no name"));
    EXPECT_THAT(message("kind: Config\nkind: Config"), HasSubstr("stands twice"));
    EXPECT_THAT(message(std::string(5U << 20U, ' ')), HasSubstr("larger than"));
}

TEST_F(KubeconfigTest, Aliases_that_multiply_and_deep_nesting_are_refused) {
    std::string bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n";
    for (int i = 1; i < 8; ++i) {
        const std::string before = "*a" + std::to_string(i - 1);
        bomb += "a" + std::to_string(i) + ": &a" + std::to_string(i) + " [";
        for (int k = 0; k < 10; ++k) bomb += (k == 0 ? "" : ",") + before;
        bomb += "]\n";
    }
    const auto bombed = load_kubeconfig(dir.write("bomb", bomb));
    ASSERT_FALSE(bombed);
    EXPECT_THAT(bombed.error().message, HasSubstr("too many values"));
    const auto deep =
        load_kubeconfig(dir.write("deep", "a: " + std::string(100, '[') + std::string(100, ']')));
    ASSERT_FALSE(deep);
    EXPECT_THAT(deep.error().message, HasSubstr("nested too deeply"));
}

TEST_F(KubeconfigTest, Where_only_trusted_files_count_a_writable_one_is_refused) {
    const std::string file = dir.write("config", kGood, 0660);
    EXPECT_TRUE(load_kubeconfig(file));
    const auto refused = load_kubeconfig(file, {.context = "", .trusted_only = true});
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().kind, ErrorKind::Invalid);
    EXPECT_THAT(refused.error().message, HasSubstr("chmod go-w " + file));
}

TEST_F(KubeconfigTest, The_search_goes_flag_environment_pod_home) {
    const std::string config = dir.write(".kube/config", kGood);
    std::map<std::string, std::string> variables{{"HOME", dir.path("")}};
    const Environment environment = [&](const std::string& name) -> std::optional<std::string> {
        const auto found = variables.find(name);
        if (found == variables.end()) return std::nullopt;
        return found->second;
    };
    EXPECT_TRUE(find_client_config("", {}, environment));
    EXPECT_EQ(find_client_config(dir.path("nope"), {}, environment).error().kind, ErrorKind::NotFound);
    variables["KUBERNETES_SERVICE_HOST"] = "10.96.0.1";
    EXPECT_FALSE(find_client_config("", {}, environment));  // in a pod without a port: no silent fallback
    variables["KUBECONFIG"] = config;
    EXPECT_TRUE(find_client_config("", {}, environment));
    variables = {{"HOME", dir.path("empty")}};
    EXPECT_THAT(find_client_config("", {}, environment).error().message, HasSubstr("no kubeconfig found"));
}

TEST_F(KubeconfigTest, In_cluster_configuration_comes_from_the_mount) {
    const Environment environment = [](const std::string& name) -> std::optional<std::string> {
        if (name == "KUBERNETES_SERVICE_HOST") return "fd00::1";
        if (name == "KUBERNETES_SERVICE_PORT") return "443";
        return std::nullopt;
    };
    EXPECT_THAT(in_cluster_config(environment, dir.path("")).error().message,
                HasSubstr("automountServiceAccountToken"));
    dir.write("token", "secret");
    dir.write("ca.crt", "pem");
    dir.write("namespace", "k8sgpu-system\n");
    const auto config = in_cluster_config(environment, dir.path("."));
    ASSERT_TRUE(config) << config.error().message;
    EXPECT_EQ(config->server, "https://[fd00::1]:443");
    EXPECT_EQ(config->ns, "k8sgpu-system");
    EXPECT_EQ(config->token_file, dir.path("./token"));
}

}  // namespace
}  // namespace k8sgpu::kube
