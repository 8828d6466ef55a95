// The translation as a table: one row per field of the pod that needs one. translate.cc walks the pod and
// applies the row that fits; `explain` and the documentation can print the same rows. Constant data; any
// thread.
//
// In `field`, "[]" stands for every element of a list and "containers[]" also for initContainers[] and
// ephemeralContainers[].
#pragma once

#include <set>
#include <span>
#include <string>
#include <string_view>

#include "providers/kubernetes/translate.h"

namespace k8sgpu::providers::kubernetes {

struct RewriteContext {
    const Json& local_pod;
    const PodId& id;
    const TranslateOptions& options;
    std::set<std::string> token_volumes;  // the automatic service account volumes, which are left out
};

// What a rewriting row did with one value.
struct RewriteResult {
    enum class Action { Nothing, Changed, Remove, Refuse };
    Action action = Action::Nothing;
    std::string note;  // overrides the row's `why` where not empty
    bool notable = false;
};

using Rewriter = RewriteResult (*)(const RewriteContext& context, Json& value);

struct FieldRow {
    std::string_view field;
    Treatment treatment;
    std::string_view why;        // for people; of a refusal: the reason and the way out
    Rewriter rewrite = nullptr;  // exactly for Rewritten rows that the walk applies
    bool notable = false;
};

// Sorted by field; no field twice.
std::span<const FieldRow> field_rows();

// The row for a field as written in the table, or null.
const FieldRow* find_row(std::string_view field);

}  // namespace k8sgpu::providers::kubernetes
