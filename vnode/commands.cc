#include "vnode/commands.h"

#include <cstdio>

#include "kube/curl_transport.h"
#include "kube/kubeconfig.h"
#include "kube/object.h"
#include "providers/kubernetes/owner_mark.h"
#include "vnode/provider_factory.h"
#include "vnode/uninstall.h"

namespace k8sgpu::vnode {
namespace {

// A cluster and what its client stands on.
struct Connection {
    std::unique_ptr<kube::CurlTransport> transport;
    std::unique_ptr<kube::ApiClient> client;
};

Result<Connection> connect(Result<kube::ClientConfig> config, Clock& clock) {
    if (!config) return fail(config.error());
    auto transport = kube::CurlTransport::create(std::move(*config), clock, {});
    if (!transport) return fail(transport.error());
    Connection made{std::move(*transport), nullptr};
    made.client = std::make_unique<kube::ApiClient>(*made.transport);
    return made;
}

Result<Connection> connect_local(const Options& options, Clock& clock) {
    return connect(kube::find_client_config(options.kubeconfig, {}, kube::process_environment()), clock);
}

Console console() {
    return {[](const std::string& line) {
                std::printf("%s\n", line.c_str());
                std::fflush(stdout);
            },
            [](const std::string& line) { std::fprintf(stderr, "%s\n", line.c_str()); }};
}

CallContext until(const Options& options, Clock& clock) {
    if (options.drain.timeout == Duration::zero()) return CallContext::until_stopped(clock, {});
    return CallContext::with_timeout(clock, options.drain.timeout, {});
}

int report(const char* what, const Options& options, const Result<void>& outcome) {
    if (outcome) return 0;
    std::fprintf(stderr, "error: unable to %s node \"%s\": %s\n", what, options.node_name.c_str(),
                 outcome.error().message.c_str());
    return 1;
}

Result<std::vector<std::string>> leftovers(kube::ApiClient& remote, const std::string& ns,
                                           const providers::kubernetes::OwnerMark& owner,
                                           const CallContext& ctx) {
    std::vector<std::string> names;
    kube::ListOptions marked;
    marked.label_selector = providers::kubernetes::mark_selector(owner);
    for (const auto& [resource, kind] :
         {std::pair{kube::resources::kPods, "pod"}, std::pair{kube::resources::kConfigMaps, "configmap"},
          std::pair{kube::resources::kSecrets, "secret"}}) {
        const auto listed = remote.list_all(resource, ns, marked, ctx);
        if (!listed) return fail(listed.error());
        for (const Json& object : listed->items)
            names.push_back(fmt::format("{} {}", kind, kube::name_of(object)));
    }
    return names;
}

Result<void> uninstall(const Options& options, Clock& clock) {
    const CallContext ctx = until(options, clock);
    auto local = connect_local(options, clock);
    if (!local) return fail(local.error());
    const auto node = local->client->get(kube::resources::kNodes, "", options.node_name,
                                         ctx.with_timeout(Duration(30'000)));
    const bool processes = node && kube::label_of(*node, "k8s.gpu/provider") == "process";
    if (processes || options.drain.abandon_pods || options.drain.dry_run)
        return Uninstaller(*local->client, options, console(), nullptr).run(ctx);

    auto remote_config = load_remote_config(options);
    if (!remote_config) return fail(remote_config.error());
    auto remote = connect(std::move(**remote_config), clock);
    if (!remote) return fail(remote.error());
    const auto system = local->client->get(kube::resources::kNamespaces, "", "kube-system",
                                           ctx.with_timeout(Duration(30'000)));
    if (!system) return fail(system.error().with_context("reading the cluster's identity"));
    const providers::kubernetes::OwnerMark owner{kube::uid_of(*system), options.node_name};
    return Uninstaller(*local->client, options, console(),
                       [&](const CallContext& call) {
                           return leftovers(*remote->client, options.remote_namespace, owner, call);
                       })
        .run(ctx);
}

}  // namespace

int run_drain(const Options& options) {
    SystemClock clock;
    auto local = connect_local(options, clock);
    if (!local) return report("drain", options, fail(local.error()));
    Drainer drainer(*local->client, options.node_name, options.drain, console());
    return report("drain", options, drainer.run(until(options, clock)));
}

int run_uninstall(const Options& options) {
    SystemClock clock;
    return report("uninstall", options, uninstall(options, clock));
}

}  // namespace k8sgpu::vnode
