// What App does when a file has changed.
#include "common/log.h"
#include "kube/kubeconfig.h"
#include "vnode/app.h"

namespace k8sgpu::vnode {
namespace {

std::vector<std::string> split_paths(const std::string& list) {
    std::vector<std::string> paths;
    std::size_t from = 0;
    while (from < list.size()) {
        const std::size_t to = std::min(list.find(':', from), list.size());
        if (to > from) paths.push_back(list.substr(from, to - from));
        from = to + 1;
    }
    return paths;
}

// Where kube::find_client_config() looks; none for a pod's service account, whose files are read again
// anyhow.
std::vector<std::string> local_files(const std::string& flag) {
    const auto environment = kube::process_environment();
    if (!flag.empty()) return split_paths(flag);
    if (const auto listed = environment("KUBECONFIG").value_or(""); !listed.empty())
        return split_paths(listed);
    if (environment("KUBERNETES_SERVICE_HOST")) return {};
    return {environment("HOME").value_or("") + "/.kube/config"};
}

spdlog::level::level_enum spdlog_level(LogLevel level) {
    switch (level) {
        case LogLevel::Debug:
            return spdlog::level::debug;
        case LogLevel::Info:
            return spdlog::level::info;
        case LogLevel::Warn:
            break;
    }
    return spdlog::level::warn;
}

Result<void> or_keep(Result<void> outcome) {
    if (outcome) return outcome;
    return fail(outcome.error().with_context("the old one stays in use"));
}

}  // namespace

std::vector<ReloadTarget> App::reload_targets() {
    std::vector<ReloadTarget> targets;
    // Options first: the log level may be changed to see what the others do.
    if (!command_.config_file.empty())
        targets.push_back(
            {"config", {command_.config_file}, [this](const CallContext&) { return reload_options(); }});
    if (auto files = local_files(options_.kubeconfig); !files.empty())
        targets.push_back({"kubeconfig", std::move(files),
                           [this](const CallContext& ctx) { return or_keep(reload_local(ctx)); }});
    if (options_.provider == ProviderKind::Kubernetes)
        targets.push_back({"remote-kubeconfig", split_paths(options_.remote_kubeconfig),
                           [this](const CallContext& ctx) { return or_keep(reload_remote(ctx)); }});
    return targets;
}

Result<void> App::reload_local(const CallContext& ctx) {
    auto config = kube::find_client_config(options_.kubeconfig, {}, kube::process_environment());
    if (!config) return fail(config.error());
    // In another cluster our pods would seem to be gone, and their copies would be ended.
    if (const std::string known = *cluster_uid_.lock(); !known.empty()) {
        auto probe = kube::CurlTransport::create(*config, clock_, {.user_agent = "k8sgpu/" + version_});
        if (!probe) return fail(probe.error());
        kube::ApiClient client(**probe);
        const auto cluster = fetch_cluster_info(client, ctx);
        if (!cluster) return fail(cluster.error().with_context("trying " + config->origin));
        if (cluster->cluster_uid != known)
            return fail(
                ErrorKind::Invalid,
                fmt::format("{} leads to another cluster: drain the node here first, then restart k8sgpu",
                            config->origin));
    }
    return transport_->reconfigure(std::move(*config));
}

Result<void> App::reload_remote(const CallContext& ctx) {
    auto config = load_remote_config(options_);
    if (!config) return fail(config.error());
    VirtualNode* node = started_node_;
    // Retried: what the node is being made of was read a moment ago and may be the old one.
    if (node == nullptr) return fail(ErrorKind::Unavailable, "waiting for the node to start");
    return node->use_remote_config(std::move(**config), ctx);
}

Result<void> App::reload_options() {
    const auto again = read_options_();
    if (!again) return or_keep(fail(again.error()));
    const Options& options = again->options;
    log().set_level(spdlog_level(options.log_level));
    *shutdown_grace_.lock() = options.shutdown_grace;
    VirtualNode* node = started_node_;
    if (node == nullptr) return fail(ErrorKind::Unavailable, "waiting for the node to start");
    node->use_options(options);
    const auto names = needing_restart(command_, *again);
    if (names.empty()) return {};
    return fail(ErrorKind::Invalid,
                fmt::format("needs a restart: {}; everything else is in use", fmt::join(names, ", ")));
}

void App::tell_reload(const std::string& what, const Result<void>& outcome) {
    const std::string words = outcome ? fmt::format("--{}: changed, and in use now", what)
                                      : fmt::format("--{}: changed; {}", what, outcome.error().message);
    if (outcome) {
        log().info("{}", words);
    } else {
        log().warn("{}", words);
    }
    if (VirtualNode* node = started_node_; node != nullptr)
        node->on_event(outcome ? "Normal" : "Warning", outcome ? "ConfigReloaded" : "ConfigNotReloaded",
                       words);
}

}  // namespace k8sgpu::vnode
