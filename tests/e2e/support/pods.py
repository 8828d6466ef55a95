"""Pods for the tests. The same ones run as processes and in the remote cluster, whose node has this image."""

IMAGE = "k8sgpu.test/busybox:1"
CLASS = "remote-gpu"  # manifests/runtimeclass.yaml
TOLERATION = {"key": "k8s.gpu/remote", "operator": "Exists", "effect": "NoSchedule"}

# By default the remote pod asks for a class of the same name.
REMOTE_CLASS = {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": CLASS}, "handler": "nvidia"}


def container(script, name="main", **fields):
    return {"name": name, "image": IMAGE, "command": ["sh", "-c", script], **fields}


def spec(*containers, grace=2, **fields):
    """What most tests want: our class, a short grace, no restarts."""
    wanted = {
        "runtimeClassName": CLASS,
        "terminationGracePeriodSeconds": grace,
        "restartPolicy": "Never",
        "containers": list(containers),
        **fields,
    }
    return {key: value for key, value in wanted.items() if value is not None}


def pod(name, script, labels=None, **fields):
    """A pod with one container `main` that runs a shell script."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": labels or {}},
        "spec": spec(container(script), **fields),
    }


# Ends at once when it is told to, unlike a plain `sleep`, which is PID 1 in a container and ignores SIGTERM.
UNTIL_TERM = "trap 'exit 0' TERM; echo started; while :; do sleep 0.2; done"
