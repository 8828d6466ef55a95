"""The labels and annotations with which the agent marks its remote pods (providers/kubernetes/owner_mark.h)."""

CLUSTER = "k8s.gpu/cluster"
NODE = "k8s.gpu/node"
POD_UID = "k8s.gpu/pod-uid"
POD_NAMESPACE, POD_NAME = "k8s.gpu/pod-namespace", "k8s.gpu/pod-name"  # annotations


def of(pod):
    """(cluster's UID, local pod's UID) of a remote pod; None where there is no mark."""
    labels = pod["metadata"].get("labels", {})
    return labels.get(CLUSTER), labels.get(POD_UID)
