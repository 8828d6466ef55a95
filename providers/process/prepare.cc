#include "providers/process/prepare.h"

#include <fmt/format.h>

#include <algorithm>

#include "kube/quantity.h"
#include "providers/process/handler.h"

namespace k8sgpu::providers::process {
namespace {

constexpr const char* kDefaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

std::size_t gpus_wanted(const Json& container) {
    const std::string amount = string_at(container, {"resources", "limits", kGpuResource}, "0");
    const auto parsed = kube::Quantity::parse(amount);
    return static_cast<std::size_t>(parsed ? std::max<std::int64_t>(0, parsed->units()) : 0);
}

// Takes this container's GPUs. Init containers run one after the other before all others and take from the
// front of the same pool; regular ones share nothing.
std::optional<Refused> take_gpus(ContainerIntent& container, std::size_t wanted, const std::vector<int>& free,
                                 std::size_t& used) {
    const std::size_t first = container.init ? 0 : used;
    if (free.size() < first + wanted) {
        return Refused{"UnexpectedAdmissionError",
                       fmt::format("Allocate failed due to requested number of devices unavailable for {}. "
                                   "Requested: {}, Available: {}, which is unexpected",
                                   kGpuResource, wanted, free.size() - first)};
    }
    const auto begin = free.begin() + static_cast<std::ptrdiff_t>(first);
    container.gpus.assign(begin, begin + static_cast<std::ptrdiff_t>(wanted));
    if (!container.init) used += wanted;
    return std::nullopt;
}

Environment with_defaults(const Json& pod, const ContainerIntent& container, const Environment& own,
                          const PrepareFacts& facts) {
    Environment all = own;
    all.try_emplace("PATH", kDefaultPath);
    all.try_emplace("HOME", facts.user.home(container.identity.uid));
    all.try_emplace("HOSTNAME", pod_hostname(pod));
    if (container.tty) all.try_emplace("TERM", "xterm");
    if (facts.offers_gpus) {
        const std::string list = fmt::format("{}", fmt::join(container.gpus, ","));
        all["NVIDIA_VISIBLE_DEVICES"] = list.empty() ? "void" : list;
        all["CUDA_VISIBLE_DEVICES"] = list;
        all["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID";
    }
    all["K8SGPU_TERMINATION_LOG"] = facts.paths.termination(container.name);
    all[kPodMark] = string_at(pod, {"metadata", "uid"});
    all[kContainerMark] = container.name;
    return all;
}

// A zero byte would silently cut what the process sees.
Blocked zero_byte(const ContainerIntent& container, const std::string& where) {
    const std::string message = fmt::format("{} contains a zero byte, which no process can be given", where);
    return Blocked{"CreateContainerError", message, {container.name}, "Failed", "Error: " + message};
}

class Preparer {
  public:
    Preparer(const DesiredPod& desired, const PrepareFacts& facts, const ObjectLookup& lookup)
        : desired_(desired),
          facts_(facts),
          inputs_{desired.pod, facts.node, facts.node.host_ips, /*service_variables=*/{}, lookup} {}

    Result<Prepared> run() {
        const Json& spec = object_at(desired_.pod, {"spec"});
        PodIntent intent;
        intent.id = desired_.id;
        const std::string policy = string_at(spec, {"restartPolicy"}, "Always");
        intent.restart = policy == "Never"       ? RestartPolicy::Never
                         : policy == "OnFailure" ? RestartPolicy::OnFailure
                                                 : RestartPolicy::Always;
        intent.grace = std::chrono::seconds(
            std::max<std::int64_t>(0, int_at(spec, {"terminationGracePeriodSeconds"}, 30)));
        if (const Json& seconds = at(spec, {"activeDeadlineSeconds"}); seconds.is_number_integer()) {
            intent.active_deadline =
                std::chrono::seconds(std::max<std::int64_t>(0, seconds.get<std::int64_t>()));
        }
        intent.pod_ips = facts_.node.host_ips;
        intent.limits = facts_.limits;
        for (const char* list : {"initContainers", "containers"}) {
            std::size_t index = 0;
            for (const Json& container : array_at(spec, {list})) {
                auto done = add(container, fmt::format("spec.{}[{}]", list, index++),
                                std::string_view(list) == "initContainers", intent);
                if (!done) return fail(done.error());
                if (*done) return std::move(**done);
            }
        }
        return Prepared(std::move(intent));
    }

  private:
    // A value means that the pod is not to be run, and why.
    Result<std::optional<Prepared>> add(const Json& json, const std::string& field, bool init,
                                        PodIntent& intent) {
        ContainerIntent container;
        container.name = string_at(json, {"name"});
        container.image = string_at(json, {"image"});
        container.init = init;
        container.directory = string_at(json, {"workingDir"});
        container.in = bool_at(json, {"stdin"});
        container.in_once = bool_at(json, {"stdinOnce"});
        container.tty = bool_at(json, {"tty"});
        container.checks = checks_of(json);
        container.message_from_log = string_at(json, {"terminationMessagePolicy"}) == "FallbackToLogsOnError";

        auto identity = identity_of(desired_.pod, json, field, facts_.user);
        if (auto* refused = std::get_if<Refused>(&identity))
            return std::optional<Prepared>(std::move(*refused));
        container.identity = std::get<Identity>(std::move(identity));

        auto outcome = resolve_environment(inputs_, json, field);
        if (!outcome) return fail(outcome.error());
        if (auto* blocked = std::get_if<Blocked>(&*outcome))
            return std::optional<Prepared>(std::move(*blocked));
        if (auto* refused = std::get_if<Refused>(&*outcome))
            return std::optional<Prepared>(std::move(*refused));
        const auto& own = std::get<Environment>(*outcome);

        if (facts_.offers_gpus) {
            if (auto refused = take_gpus(container, gpus_wanted(json), facts_.free_gpus, used_gpus_)) {
                return std::optional<Prepared>(std::move(*refused));
            }
        }
        for (const char* part : {"command", "args"}) {
            for (std::string& word : expand_all(at(json, {part}), own)) {
                if (word.find('\0') != std::string::npos) {
                    return std::optional<Prepared>(zero_byte(container, fmt::format("{}.{}", field, part)));
                }
                container.argv.push_back(std::move(word));
            }
        }
        for (const auto& [name, value] : with_defaults(desired_.pod, container, own, facts_)) {
            if (name.find('\0') != std::string::npos || value.find('\0') != std::string::npos) {
                return std::optional<Prepared>(zero_byte(container, "environment variable " + name));
            }
            container.environment.push_back(name + "=" + value);
        }
        intent.containers.push_back(std::move(container));
        return std::optional<Prepared>();
    }

    const DesiredPod& desired_;
    const PrepareFacts& facts_;
    EnvironmentInputs inputs_;
    std::size_t used_gpus_ = 0;
};

}  // namespace

Result<Prepared> prepare(const DesiredPod& desired, const PrepareFacts& facts, const ObjectLookup& lookup) {
    return Preparer(desired, facts, lookup).run();
}

}  // namespace k8sgpu::providers::process
