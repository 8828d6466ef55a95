// The functions that the table's Rewritten rows name. Each sees one value, changes it in place and says what
// it did. Pure; any thread.
#pragma once

#include "providers/kubernetes/field_table.h"

namespace k8sgpu::providers::kubernetes {

// References to ConfigMaps and Secrets: the value is the name.
RewriteResult rename_config_map(const RewriteContext& context, Json& name);
RewriteResult rename_secret(const RewriteContext& context, Json& name);

// spec.containers[].env[]: fields that differ between here and there become literal values.
RewriteResult rewrite_env(const RewriteContext& context, Json& variable);
// An item of a downwardAPI volume: metadata.name, namespace and uid are read from our mark.
RewriteResult rewrite_downward_item(const RewriteContext& context, Json& item);

// spec.volumes[] and volumeMounts[]: without the automatic service account volume.
RewriteResult drop_token_volume(const RewriteContext& context, Json& volume);
RewriteResult drop_token_mount(const RewriteContext& context, Json& mount);

// spec.tolerations[]: only those that mean something on the remote cluster's nodes.
RewriteResult filter_toleration(const RewriteContext& context, Json& toleration);

RewriteResult choose_runtime_class(const RewriteContext& context, Json& name);

// The names of the volumes that the local service account admission added.
std::set<std::string> automatic_token_volumes(const Json& pod);

}  // namespace k8sgpu::providers::kubernetes
