#include "providers/simulated/journal.h"

#include <fmt/format.h>

#include "common/encoding.h"
#include "common/file.h"

namespace k8sgpu::providers::simulated {
namespace {

constexpr std::size_t kLargest = 64U << 20U;

}  // namespace

Result<std::vector<SimulatedBackend::Facts>> Journal::load() const {
    std::vector<SimulatedBackend::Facts> pods;
    const auto text = read_file(path_, kLargest);
    if (!text) {
        if (text.error().kind == ErrorKind::NotFound) return pods;
        return fail(text.error());
    }
    const auto json = parse_json(*text, path_);
    if (!json) return fail(json.error());
    for (const Json& entry : array_at(*json, {"pods"})) {
        SimulatedBackend::Facts facts;
        facts.id = {string_at(entry, {"namespace"}), string_at(entry, {"name"}), string_at(entry, {"uid"})};
        facts.pod = object_at(entry, {"pod"});
        facts.backend_id = string_at(entry, {"backendID"});
        const auto created = parse_rfc3339(string_at(entry, {"created"}));
        facts.removed = parse_rfc3339(string_at(entry, {"removed"}));
        facts.deadline = parse_rfc3339(string_at(entry, {"deadline"})).value_or(WallTime());
        if (facts.id.uid.empty() || !created) {
            return fail(ErrorKind::Invalid,
                        fmt::format("{}: an entry without uid or time of creation; move the file away to "
                                    "give up the simulated pods in it",
                                    path_));
        }
        facts.created = *created;
        pods.push_back(std::move(facts));
    }
    return pods;
}

Result<void> Journal::store(const std::vector<SimulatedBackend::Facts>& pods) const {
    Json list = Json::array();
    for (const auto& facts : pods) {
        Json entry = {{"namespace", facts.id.ns},
                      {"name", facts.id.name},
                      {"uid", facts.id.uid},
                      {"backendID", facts.backend_id},
                      {"created", rfc3339_nanos(facts.created)},
                      {"pod", facts.pod}};
        if (facts.removed) {
            entry["removed"] = rfc3339_nanos(*facts.removed);
            entry["deadline"] = rfc3339_nanos(facts.deadline);
        }
        list.push_back(std::move(entry));
    }
    return replace_file(path_, dump_json({{"pods", std::move(list)}}) + "\n", 0600);
}

}  // namespace k8sgpu::providers::simulated
