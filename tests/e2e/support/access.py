"""The shipped permissions, applied as an operator would, and the kubeconfigs that the agent gets: never an administrator's."""

import yaml

from .agent import NODE, REPOSITORY

MANIFESTS = REPOSITORY / "manifests"
TENANT = "gpu"


def manifest(name, node=NODE):
    """Objects of a shipped manifest. For a node of another name, its name is put in as the operator would."""
    text = (MANIFESTS / name).read_text()
    objects = [object_ for object_ in yaml.safe_load_all(text) if object_]
    return [_renamed(object_, node) for object_ in objects] if node != NODE else objects


def _renamed(value, node):
    # Whole values only: the domain of labels and taints is k8s.gpu as well.
    if isinstance(value, dict):
        return {key: _renamed(entry, node) for key, entry in value.items()}
    if isinstance(value, list):
        return [_renamed(entry, node) for entry in value]
    return {NODE: node, f"system:node:{NODE}": f"system:node:{node}"}.get(value, value) if isinstance(value, str) else value


def grant(cluster, name, node=NODE):
    """Applies a shipped manifest and returns its objects; namespaces that it counts on are made."""
    objects = manifest(name, node)
    for namespace in sorted({object_["metadata"].get("namespace") for object_ in objects} - {None}):
        cluster.create_namespace(namespace)
    cluster.apply(*objects)
    return objects


def service_account(objects):
    """Namespace and name of the ServiceAccount among the objects of a manifest."""
    found = [object_["metadata"] for object_ in objects if object_["kind"] == "ServiceAccount"]
    assert len(found) == 1, f"expected one ServiceAccount, found {found}"
    return found[0]["namespace"], found[0]["name"]


def local_kubeconfig(cluster, node=NODE, suffix=""):
    """`suffix` keeps the roles of a second node beside those of the first."""
    objects = manifest("rbac.yaml", node)
    for object_ in objects:
        if object_["kind"] != "ServiceAccount":
            object_["metadata"]["name"] += suffix
        if "roleRef" in object_ and object_["roleRef"]["name"].startswith("k8sgpu"):
            object_["roleRef"]["name"] += suffix
    cluster.apply(*objects)
    namespace, name = service_account(objects)
    return cluster.cluster.service_account_kubeconfig(namespace, name)


def tenant_kubeconfig(cluster):
    cluster.create_namespace(TENANT)
    namespace, name = service_account(grant(cluster, "tenant-role.yaml"))
    return cluster.cluster.service_account_kubeconfig(namespace, name)
