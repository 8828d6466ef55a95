"""A cluster of the test bed as its users see it: kubectl and a few questions about pods, as administrator."""

import json
import subprocess
import time
from datetime import datetime, timezone

from testbed.api import ApiError

from .waiting import wait_for

MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"


def kubectl_command(cluster, *arguments, kubeconfig=None):
    return [
        str(cluster.programs["kubectl"]),
        f"--kubeconfig={kubeconfig or cluster.kubeconfig}",
        f"--cache-dir={cluster.folder / 'kubectl-cache'}",
        *map(str, arguments),
    ]


def parse_time(text):
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)


def condition(object_, type_):
    """The condition of that type, or an empty dict: also of an object that is not there."""
    for entry in (object_ or {}).get("status", {}).get("conditions", []):
        if entry["type"] == type_:
            return entry
    return {}


def states(pod, kind="containerStatuses"):
    """Container name → its status."""
    return {status["name"]: status for status in pod.get("status", {}).get(kind, [])}


class Cluster:
    """`namespace` is where pods are looked for when none is named."""

    def __init__(self, cluster, namespace):
        self.cluster = cluster
        self.namespace = namespace
        self.api = cluster.api()

    def run(self, *arguments, input=None, timeout=60, kubeconfig=None, env=None):
        """kubectl to its end: returncode, stdout, stderr."""
        return subprocess.run(
            kubectl_command(self.cluster, *arguments, kubeconfig=kubeconfig),
            input=input,
            text=True,
            capture_output=True,
            timeout=timeout,
            env=env,
        )

    def kubectl(self, *arguments, **options):
        """Output of a kubectl that must succeed."""
        done = self.run(*arguments, **options)
        assert done.returncode == 0, f"kubectl {' '.join(map(str, arguments))}: {done.stderr or done.stdout}"
        return done.stdout

    def popen(self, *arguments, **options):
        return subprocess.Popen(kubectl_command(self.cluster, *arguments), text=True, **options)

    def apply(self, *objects):
        # One List: older kubectls do not take several documents of JSON.
        return self.kubectl("apply", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))

    # --- objects ---

    def get(self, path):
        """The object, or None where there is none."""
        try:
            return self.api.get(path)
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def delete(self, path, grace=None):
        """Deletes what may be gone already."""
        body = None if grace is None else {"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": grace}
        try:
            return self.api.call("DELETE", path, body)
        except ApiError as error:
            if error.status != 404:
                raise

    def patch(self, path, body, kind=MERGE):
        return self.api.call("PATCH", path, body, content_type=kind)

    def create_namespace(self, name):
        path = f"/api/v1/namespaces/{name}"
        if (self.get(path) or {}).get("status", {}).get("phase") == "Terminating":
            wait_for(lambda: self.get(path) is None, 60, f"the former namespace {name} to be gone")
        if self.get(path) is None:
            self.api.call("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
        # Pods are refused before it is there.
        wait_for(lambda: self.get(f"/api/v1/namespaces/{name}/serviceaccounts/default"), 20, f"the service account of {name}")

    # --- pods ---

    def pod_path(self, name="", namespace=None):
        return f"/api/v1/namespaces/{namespace or self.namespace}/pods" + (f"/{name}" if name else "")

    def create_pod(self, pod):
        return self.api.call("POST", self.pod_path(namespace=pod["metadata"].get("namespace")), pod)

    def pod(self, name, namespace=None):
        return self.get(self.pod_path(name, namespace))

    def pods(self, selector=""):
        path = self.pod_path() + (f"?labelSelector={selector}" if selector else "")
        return self.api.get(path)["items"]

    def delete_pod(self, name, grace=None):
        return self.delete(self.pod_path(name), grace)

    def wait_pod(self, name, predicate, what, timeout=30):
        """The pod once predicate(pod) is true."""
        last = {}

        def look():
            last["pod"] = self.pod(name)
            return last["pod"] if last["pod"] and predicate(last["pod"]) else None

        def describe():
            return f"pod {name} {what}; its status: {json.dumps((last.get('pod') or {}).get('status'))}\n{self.describe_events(name)}"

        return wait_for(look, timeout, describe)

    def wait_phase(self, name, phase, timeout=30):
        def reached(pod):
            now = pod["status"].get("phase")
            assert now == phase or now not in ("Succeeded", "Failed"), f"pod {name} is {now}: {json.dumps(pod['status'])}"
            return now == phase

        return self.wait_pod(name, reached, f"to be {phase}", timeout)

    def wait_ready(self, name, timeout=30):
        return self.wait_pod(name, lambda pod: condition(pod, "Ready").get("status") == "True", "to be Ready", timeout)

    def wait_pod_gone(self, name, timeout=30, uid=None):
        def gone():
            pod = self.pod(name)
            return pod is None or (uid is not None and pod["metadata"]["uid"] != uid)

        wait_for(gone, timeout, lambda: f"pod {name} to be gone; {json.dumps(self.pod(name))}")

    def clear(self, wait=True):
        """Removes every pod of the namespace and whatever would make new ones."""
        for path in ("apps/v1/namespaces/{}/deployments", "apps/v1/namespaces/{}/daemonsets", "batch/v1/namespaces/{}/jobs"):
            self.api.call("DELETE", f"/apis/{path.format(self.namespace)}?propagationPolicy=Background")
        # A controller may be at making one more pod.
        deadline = time.monotonic() + 60
        while wait and self.pods():
            self.api.call("DELETE", f"{self.pod_path()}?gracePeriodSeconds=1")
            assert time.monotonic() < deadline, f"still in {self.namespace}: {[(p['metadata']['name'], p['status']) for p in self.pods()]}"
            time.sleep(0.5)

    def wait_for_pod_of(self, selector, timeout=20):
        return wait_for(lambda: (self.pods(selector) or [None])[0], timeout, f"a pod of {selector}")

    def wait_no_pods_of(self, selector, timeout=30):
        wait_for(
            lambda: not self.pods(selector),
            timeout,
            lambda: f"no pods of {selector}: {[p['metadata']['name'] for p in self.pods(selector)]}",
        )

    # --- events ---

    def events(self, name, kind="Pod", namespace=None):
        selector = f"involvedObject.name={name},involvedObject.kind={kind}"
        path = "/api/v1/events" if namespace == "" else f"/api/v1/namespaces/{namespace or self.namespace}/events"
        return self.api.get(f"{path}?fieldSelector={selector}")["items"]

    def describe_events(self, name):
        return "\n".join(f"  event {e['type']} {e['reason']}: {e['message']}" for e in self.events(name))

    def wait_event(self, name, reason, timeout=15, kind="Pod", namespace=None):
        return wait_for(
            lambda: [event for event in self.events(name, kind, namespace) if event["reason"] == reason],
            timeout,
            lambda: f"an event {reason} on {kind} {name}; there are: {[e['reason'] for e in self.events(name, kind, namespace)]}",
        )
