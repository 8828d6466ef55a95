#include "vnode/reloader.h"

#include <utility>

namespace k8sgpu::vnode {
namespace {

constexpr Duration kLookEvery{2'000};
constexpr Duration kApplyTimeout{20'000};

}  // namespace

Reloader::Reloader(Clock& clock, MetricsRegistry& metrics, std::vector<ReloadTarget> targets,
                   ReloadReport report)
    : clock_(clock),
      reloads_(prometheus::BuildCounter()
                   .Name("k8sgpu_config_reloads_total")
                   .Help("Changed kubeconfigs and config files, by whether they were taken into use.")
                   .Register(metrics)),
      report_(std::move(report)) {
    for (ReloadTarget& target : targets) {
        FileWatch files(target.files);
        watched_.push_back({std::move(target), std::move(files), false, ""});
    }
}

void Reloader::start() {
    thread_ = Thread("reload", [this](std::stop_token stop) {
        while (true) {
            bool forced = false;
            {
                auto asked = forced_.lock();
                asked.wait_until(clock_, wake_, clock_.now() + kLookEvery, stop, [&] { return *asked; });
                forced = std::exchange(*asked, false);
            }
            if (stop.stop_requested()) return;
            look(forced, stop);
        }
    });
}

void Reloader::force() {
    *forced_.lock() = true;
    wake_.notify_all();
}

void Reloader::look(bool forced, std::stop_token stop) {
    for (Watched& watched : watched_) {
        const bool changed = watched.files.changed();
        if (changed || forced) watched.told.clear();
        if (!changed && !forced && !watched.retry) continue;
        const auto outcome = watched.target.apply(CallContext::with_timeout(clock_, kApplyTimeout, stop));
        if (!outcome && outcome.error().kind == ErrorKind::Cancelled) return;
        watched.retry = !outcome && is_retryable(outcome.error().kind);
        reloads_.Add({{"what", watched.target.what}, {"outcome", outcome ? "success" : "error"}}).Increment();
        const std::string words = outcome ? "ok" : outcome.error().message;
        if (std::exchange(watched.told, words) != words) report_(watched.target.what, outcome);
    }
}

}  // namespace k8sgpu::vnode
