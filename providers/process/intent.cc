#include "providers/process/intent.h"

#include <algorithm>

#include "common/file.h"

namespace k8sgpu::providers::process {
namespace {

constexpr int kVersion = 1;
// Arguments and environment of one pod; etcd holds no larger object, ConfigMaps and Secrets add to it.
constexpr std::size_t kMaxIntentBytes = 64U << 20U;

template <typename Number>
std::vector<Number> numbers(const Json& list) {
    std::vector<Number> out;
    for (const Json& number : list) {
        if (number.is_number_integer()) out.push_back(number.get<Number>());
    }
    return out;
}

std::vector<std::string> strings(const Json& list) {
    std::vector<std::string> out;
    for (const Json& text : list) {
        if (text.is_string()) out.push_back(text.get<std::string>());
    }
    return out;
}

const char* name_of(RestartPolicy policy) {
    if (policy == RestartPolicy::Never) return "Never";
    return policy == RestartPolicy::OnFailure ? "OnFailure" : "Always";
}

Json to_json(const ContainerIntent& c) {
    Json json = {{"name", c.name},
                 {"image", c.image},
                 {"init", c.init},
                 {"argv", c.argv},
                 {"environment", c.environment},
                 {"directory", c.directory},
                 {"stdin", c.in},
                 {"stdinOnce", c.in_once},
                 {"tty", c.tty},
                 {"checks", c.checks},
                 {"messageFromLog", c.message_from_log},
                 {"gpus", c.gpus},
                 {"noNewPrivileges", c.identity.no_new_privileges},
                 {"droppedCapabilities", c.identity.dropped_capabilities}};
    if (c.identity.switch_user) {
        json["user"] = {{"uid", c.identity.uid}, {"gid", c.identity.gid}, {"groups", c.identity.groups}};
    }
    return json;
}

ContainerIntent container_from_json(const Json& json) {
    ContainerIntent c;
    c.name = string_at(json, {"name"});
    c.image = string_at(json, {"image"});
    c.init = bool_at(json, {"init"});
    c.argv = strings(array_at(json, {"argv"}));
    c.environment = strings(array_at(json, {"environment"}));
    c.directory = string_at(json, {"directory"});
    c.in = bool_at(json, {"stdin"});
    c.in_once = bool_at(json, {"stdinOnce"});
    c.tty = bool_at(json, {"tty"});
    c.checks = object_at(json, {"checks"});
    c.message_from_log = bool_at(json, {"messageFromLog"});
    c.gpus = numbers<int>(array_at(json, {"gpus"}));
    c.identity.no_new_privileges = bool_at(json, {"noNewPrivileges"});
    c.identity.dropped_capabilities = numbers<int>(array_at(json, {"droppedCapabilities"}));
    const Json& user = at(json, {"user"});
    c.identity.switch_user = user.is_object();
    c.identity.uid = static_cast<uid_t>(int_at(user, {"uid"}));
    c.identity.gid = static_cast<gid_t>(int_at(user, {"gid"}));
    c.identity.groups = numbers<gid_t>(array_at(user, {"groups"}));
    return c;
}

std::optional<std::chrono::seconds> seconds_at(const Json& json, const char* key) {
    const Json& value = at(json, {key});
    if (!value.is_number_integer()) return std::nullopt;
    return std::chrono::seconds(std::max<std::int64_t>(0, value.get<std::int64_t>()));
}

}  // namespace

Json to_json(const PodIntent& intent) {
    Json containers = Json::array();
    for (const ContainerIntent& container : intent.containers) containers.push_back(to_json(container));
    Json json = {{"version", kVersion},
                 {"namespace", intent.id.ns},
                 {"name", intent.id.name},
                 {"uid", intent.id.uid},
                 {"restartPolicy", name_of(intent.restart)},
                 {"graceSeconds", intent.grace.count()},
                 {"podIPs", intent.pod_ips},
                 {"containers", std::move(containers)},
                 {"limits",
                  {{"backoffInitialMs", intent.limits.backoff_initial.count()},
                   {"backoffCapMs", intent.limits.backoff_cap.count()},
                   {"backoffResetMs", intent.limits.backoff_reset.count()},
                   {"logBytes", intent.limits.log_bytes},
                   {"logFiles", intent.limits.log_files}}}};
    if (intent.active_deadline) json["activeDeadlineSeconds"] = intent.active_deadline->count();
    return json;
}

Result<PodIntent> intent_from_json(const Json& json) {
    if (const auto version = int_at(json, {"version"}); version != kVersion) {
        return fail(ErrorKind::Invalid, "version " + std::to_string(version) +
                                            " of pod.json; this program knows " + std::to_string(kVersion));
    }
    PodIntent intent;
    intent.id = {string_at(json, {"namespace"}), string_at(json, {"name"}), string_at(json, {"uid"})};
    const std::string policy = string_at(json, {"restartPolicy"});
    intent.restart = policy == "Never"       ? RestartPolicy::Never
                     : policy == "OnFailure" ? RestartPolicy::OnFailure
                                             : RestartPolicy::Always;
    intent.grace = std::chrono::seconds(int_at(json, {"graceSeconds"}, 30));
    intent.active_deadline = seconds_at(json, "activeDeadlineSeconds");
    intent.pod_ips = strings(array_at(json, {"podIPs"}));
    ShimLimits& limits = intent.limits;
    limits.backoff_initial =
        Duration(int_at(json, {"limits", "backoffInitialMs"}, limits.backoff_initial.count()));
    limits.backoff_cap = Duration(int_at(json, {"limits", "backoffCapMs"}, limits.backoff_cap.count()));
    limits.backoff_reset = Duration(int_at(json, {"limits", "backoffResetMs"}, limits.backoff_reset.count()));
    limits.log_bytes = int_at(json, {"limits", "logBytes"}, limits.log_bytes);
    limits.log_files = static_cast<int>(int_at(json, {"limits", "logFiles"}, limits.log_files));
    for (const Json& container : array_at(json, {"containers"})) {
        intent.containers.push_back(container_from_json(container));
        const ContainerIntent& c = intent.containers.back();
        if (c.name.empty() || c.argv.empty())
            return fail(ErrorKind::Invalid, "a container without name or command");
    }
    if (intent.id.uid.empty() || intent.containers.empty()) {
        return fail(ErrorKind::Invalid, "no UID or no containers");
    }
    return intent;
}

Result<PodIntent> read_intent(const std::string& path) {
    auto text = read_file(path, kMaxIntentBytes);
    if (!text) return fail(text.error());
    auto json = parse_json(*text, path);
    if (!json) return fail(json.error());
    auto intent = intent_from_json(*json);
    if (!intent) return fail(intent.error().with_context(path));
    return intent;
}

Json to_json(const Orders& orders) {
    Json json = Json::object();
    if (orders.stop_grace) json["stopGraceSeconds"] = orders.stop_grace->count();
    if (orders.active_deadline) json["activeDeadlineSeconds"] = orders.active_deadline->count();
    return json;
}

Result<Orders> read_orders(const std::string& path) {
    auto text = read_file(path, 65536);
    if (!text) return fail(text.error());
    auto json = parse_json(*text, path);
    if (!json) return fail(json.error());
    return Orders{seconds_at(*json, "stopGraceSeconds"), seconds_at(*json, "activeDeadlineSeconds")};
}

}  // namespace k8sgpu::providers::process
