#include "providers/kubernetes/translate.h"

#include <fmt/format.h>

#include "providers/kubernetes/field_table.h"
#include "providers/kubernetes/owner_mark.h"
#include "providers/kubernetes/rewriters.h"

namespace k8sgpu::providers::kubernetes {
namespace {

// False for what says nothing: a field that is there but empty needs neither a refusal nor a line.
bool says_something(const Json& value) {
    if (value.is_null()) return false;
    if (value.is_boolean()) return value.get<bool>();
    if (value.is_number()) return value != 0;
    if (value.is_string()) return !value.get_ref<const std::string&>().empty();
    return !value.empty();
}

class Walk {
  public:
    Walk(const RewriteContext& context, Translation& out) : context_(context), out_(out) {}

    // `pattern` is the field as the table writes it, `field` as people do. False: remove the value.
    bool visit(Json& value, const std::string& pattern, const std::string& field) {
        if (const FieldRow* row = find_row(pattern); row != nullptr && !apply(*row, value, field))
            return false;
        if (value.is_object()) visit_members(value, pattern, field);
        if (value.is_array()) visit_elements(value, pattern, field);
        return true;
    }

  private:
    void visit_members(Json& object, const std::string& pattern, const std::string& field) {
        for (auto member = object.begin(); member != object.end();) {
            const std::string& key = member.key();
            const std::string name = key == "initContainers" ? "containers" : key;
            const bool keep = visit(member.value(), pattern + "." + name, field + "." + key);
            member = keep ? std::next(member) : object.erase(member);
        }
    }

    void visit_elements(Json& array, const std::string& pattern, const std::string& field) {
        std::size_t index = 0;  // as in the local pod, whatever was removed before
        for (auto element = array.begin(); element != array.end(); ++index) {
            const bool keep = visit(*element, pattern + "[]", fmt::format("{}[{}]", field, index));
            element = keep ? std::next(element) : array.erase(element);
        }
    }

    bool apply(const FieldRow& row, Json& value, const std::string& field) {
        switch (row.treatment) {
            case Treatment::Kept:
                return true;
            case Treatment::Dropped:
                if (says_something(value)) {
                    out_.changes.push_back({Treatment::Dropped, field, std::string(row.why), row.notable});
                }
                return false;
            case Treatment::Refused:
                if (says_something(value)) refuse(field, std::string(row.why));
                return true;
            case Treatment::Rewritten:
                break;
        }
        if (row.rewrite == nullptr) return true;
        const RewriteResult result = row.rewrite(context_, value);
        const std::string note = result.note.empty() ? std::string(row.why) : result.note;
        switch (result.action) {
            case RewriteResult::Action::Nothing:
                return true;
            case RewriteResult::Action::Changed:
                out_.changes.push_back({Treatment::Rewritten, field, note, result.notable});
                return true;
            case RewriteResult::Action::Remove:
                out_.changes.push_back({Treatment::Dropped, field, note, result.notable});
                return false;
            case RewriteResult::Action::Refuse:
                refuse(field, note);
                return true;
        }
        return true;
    }

    void refuse(const std::string& field, std::string why) {
        out_.refusals.push_back({Treatment::Refused, field, std::move(why), true});
    }

    const RewriteContext& context_;
    Translation& out_;
};

// The carried part of the local pod's labels or annotations.
Json carried(const Json& pod, std::string_view map, Translation& out) {
    Json kept = Json::object();
    for (const auto& [key, value] : object_at(pod, {"metadata", map}).items()) {
        if (is_carried_key(key)) {
            kept[key] = value;
        } else {
            out.changes.push_back({Treatment::Dropped, fmt::format("metadata.{}[{}]", map, key),
                                   "this key has a meaning of its own on a remote pod", false});
        }
    }
    return kept;
}

std::string keys_of(const Json& map) {
    std::string keys;
    for (const auto& [key, value] : map.items()) keys += (keys.empty() ? "" : ",") + key;
    return keys;
}

Json remote_metadata(const DesiredPod& desired, const TranslateOptions& options, Translation& out) {
    Json labels = carried(desired.pod, "labels", out);
    Json annotations = carried(desired.pod, "annotations", out);
    annotations[kCarriedAnnotation] = keys_of(labels) + ";" + keys_of(annotations);
    if (!options.tenant_name.empty()) labels[kTenantLabel] = label_value(options.tenant_name);
    Json metadata = {{"name", remote_pod_name(desired.id)},
                     {"namespace", options.remote_namespace},
                     {"labels", std::move(labels)},
                     {"annotations", std::move(annotations)}};
    mark_pod(metadata, options.owner, desired.id);
    return metadata;
}

// Fields that a remote pod has whether or not the local one says something.
void complete(const RewriteContext& context, Json& spec, Translation& out) {
    const auto rewritten = [&out](std::string field, std::string note) {
        out.changes.push_back({Treatment::Rewritten, std::move(field), std::move(note), false});
    };
    spec["automountServiceAccountToken"] = false;
    if (bool_at(spec, {"enableServiceLinks"}, true)) {
        rewritten("spec.enableServiceLinks", "the remote namespace's Services are not this pod's");
    }
    spec["enableServiceLinks"] = false;

    if (string_at(spec, {"hostname"}).empty()) {
        if (const auto hostname = remote_hostname(context.local_pod)) {
            spec["hostname"] = *hostname;
            rewritten("spec.hostname", "as on a node of the local cluster");
        } else {
            rewritten("spec.hostname",
                      "the pod's name is no DNS label; the host name is that of the remote pod");
        }
    }
    if (const std::string& policy = context.options.runtime_class;
        !policy.empty() && policy != "same" && string_at(spec, {"runtimeClassName"}).empty()) {
        spec["runtimeClassName"] = policy;
        rewritten("spec.runtimeClassName", fmt::format("remote pods run in class \"{}\"", policy));
    }
    // An empty list is no field; kept out so that the remote pod reads like one that a person wrote.
    for (const char* list : {"tolerations", "volumes", "imagePullSecrets"}) {
        if (spec.contains(list) && spec[list].empty()) spec.erase(list);
    }
}

}  // namespace

std::string_view to_string(Treatment treatment) {
    switch (treatment) {
        case Treatment::Kept:
            return "kept";
        case Treatment::Rewritten:
            return "rewritten";
        case Treatment::Dropped:
            return "dropped";
        case Treatment::Refused:
            return "refused";
    }
    return "kept";
}

bool is_carried_key(std::string_view key) {
    // kubernetes.io/config.* makes a mirror pod of whatever carries it.
    return !key.starts_with(kDomain) && !key.starts_with("kubernetes.io/config.");
}

Translation translate(const DesiredPod& desired, const TranslateOptions& options) {
    Translation out;
    const RewriteContext context{desired.pod, desired.id, options, automatic_token_volumes(desired.pod)};
    Json spec = object_at(desired.pod, {"spec"});
    Walk(context, out).visit(spec, "spec", "spec");
    complete(context, spec, out);
    out.pod = {{"apiVersion", "v1"}, {"kind", "Pod"}};
    out.pod["metadata"] = remote_metadata(desired, options, out);
    out.pod["spec"] = std::move(spec);
    return out;
}

Translation translate_ephemeral(const DesiredPod& desired, const TranslateOptions& options) {
    Translation out;
    const RewriteContext context{desired.pod, desired.id, options, automatic_token_volumes(desired.pod)};
    out.pod = Json::array();
    std::size_t index = 0;
    for (Json container : array_at(desired.pod, {"spec", "ephemeralContainers"})) {
        const std::size_t refusals = out.refusals.size();
        Walk(context, out)
            .visit(container, "spec.containers[]", fmt::format("spec.ephemeralContainers[{}]", index++));
        if (out.refusals.size() == refusals) out.pod.push_back(std::move(container));
    }
    return out;
}

std::optional<Refused> refusal_of(const Translation& translation) {
    if (translation.refusals.empty()) return std::nullopt;
    std::string message;
    for (const Change& refusal : translation.refusals) {
        if (!message.empty()) message += "; ";
        message += refusal.field + ": " + refusal.note;
    }
    // The kubelet's own reason for a pod that asks for what this node cannot do.
    return Refused{"PodFeatureUnsupported", std::move(message)};
}

}  // namespace k8sgpu::providers::kubernetes
