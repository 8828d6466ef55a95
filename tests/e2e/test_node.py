"""The Node: what it is from its first moment, what of it belongs to others, and that it stays."""

import threading
import time

import pytest

from support.clusters import STRATEGIC, Cluster, condition, parse_time
from support.node_lint import faults
from support.waiting import stays, wait_for

NODE = "/api/v1/nodes/k8s.gpu"
LEASE = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/k8s.gpu"


class NodeWatch:
    """Records what happens to Nodes from before the agent starts: the first ADDED holds what the creating POST carried."""

    def __init__(self, api):
        self._stop = threading.Event()
        self._api = api
        self._version = api.get("/api/v1/nodes")["metadata"]["resourceVersion"]
        self.events = []
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        while not self._stop.is_set():
            for event in self._api.watch(f"/api/v1/nodes?watch=1&resourceVersion={self._version}", self._stop, timeout=2):
                self.events.append((time.monotonic(), event["type"], event["object"]))
                self._version = event["object"]["metadata"]["resourceVersion"]

    def added(self):
        return [node for _, kind, node in self.events if kind == "ADDED"]

    def stop(self):
        self._stop.set()
        self._thread.join()


@pytest.fixture(scope="module")
def watched(bed):
    watch = NodeWatch(bed.local.api())
    yield watch
    watch.stop()


@pytest.fixture(scope="module")
def agent(agents, bed, kubeconfig, watched):
    labels = "node-type=gpu,nvidia.com/gpu.product=Pretend-9000"
    options = {
        "node_labels": labels,
        "capacity": "nvidia.com/gpu=4",
        "register_with_taints": "k8s.gpu/remote:NoSchedule,team=blue:NoSchedule",
    }
    return agents.make(bed, "node", provider="process", kubeconfig=kubeconfig, **options).start().wait_ready()


@pytest.fixture(scope="module")
def cluster(bed):
    return Cluster(bed.local, "default")


def node_of(cluster):
    return cluster.get(NODE)


def test_the_creating_post_carries_everything(agent, watched):
    created = wait_for(watched.added, 5, "the Node's creation to be seen")[0]
    assert faults(created) == []
    assert created["status"]["capacity"]["nvidia.com/gpu"] == "4"
    labels = created["metadata"]["labels"]
    assert labels["node-type"] == "gpu" and labels["nvidia.com/gpu.product"] == "Pretend-9000"
    taints = {(taint["key"], taint.get("value", ""), taint["effect"]) for taint in created["spec"]["taints"]}
    # The third is the API server's own, until the node is seen to be Ready.
    assert taints - {("node.kubernetes.io/not-ready", "", "NoSchedule")} == {
        ("k8s.gpu/remote", "", "NoSchedule"),
        ("team", "blue", "NoSchedule"),
    }


def test_the_running_node_passes_the_lint(agent, cluster):
    node = node_of(cluster)
    assert faults(node) == []
    assert node["status"]["addresses"] == [{"type": "InternalIP", "address": agent.address}]
    assert node["status"]["nodeInfo"]["kubeletVersion"].startswith(cluster.api.get("/version")["gitVersion"].split("+")[0])


def test_kubectl_shows_it(agent, cluster):
    shown = cluster.kubectl("get", "node", "k8s.gpu", "-o", "wide").splitlines()[1].split()
    assert shown[:3] == ["k8s.gpu", "Ready", "agent"] and agent.address in shown


def test_the_lease_is_kept(agent, cluster):
    first = cluster.get(LEASE)
    assert first["spec"]["holderIdentity"] == "k8s.gpu"
    assert first["spec"]["leaseDurationSeconds"] == 40
    assert [(owner["kind"], owner["name"], owner["uid"]) for owner in first["metadata"]["ownerReferences"]] == [
        ("Node", "k8s.gpu", node_of(cluster)["metadata"]["uid"])
    ]
    wait_for(lambda: cluster.get(LEASE)["spec"]["renewTime"] > first["spec"]["renewTime"], 13, "the lease to be renewed")


def test_what_others_write_survives_and_what_is_ours_comes_back(agent, cluster):
    cluster.patch(
        NODE,
        {
            "metadata": {
                "labels": {"example.com/rack": "7", "kubernetes.io/hostname": "wrong"},
                "annotations": {"example.com/note": "keep"},
            },
            "spec": {"taints": [{"key": "example.com/maintenance", "effect": "NoSchedule"}], "unschedulable": True},
        },
    )
    # As OSMO's validators do: a condition of their own, together with stale copies of ours.
    now = node_of(cluster)["status"]["conditions"][0]["lastTransitionTime"]
    stale = {"lastHeartbeatTime": now, "lastTransitionTime": now, "reason": "Stale", "message": "written by somebody else"}
    cluster.patch(
        NODE + "/status",
        {
            "status": {
                "conditions": [
                    {"type": "osmo.nvidia.com/Validated", "status": "True", **stale},
                    {"type": "NetworkUnavailable", "status": "True", **stale},
                ]
            }
        },
        STRATEGIC,
    )

    def mended():
        node = node_of(cluster)
        return (
            condition(node, "NetworkUnavailable").get("status") == "False"
            and node["metadata"]["labels"]["kubernetes.io/hostname"] == "k8s.gpu"
        )

    wait_for(mended, 15, "our label and our condition to come back")

    def foreign_is_there():
        node = node_of(cluster)
        return (
            condition(node, "osmo.nvidia.com/Validated").get("reason") == "Stale"
            and node["metadata"]["labels"].get("example.com/rack") == "7"
            and node["metadata"]["annotations"].get("example.com/note") == "keep"
            and node["spec"].get("unschedulable") is True
            and "example.com/maintenance" in [taint["key"] for taint in node["spec"]["taints"]]
            and "team" not in [taint["key"] for taint in node["spec"]["taints"]]  # removed above, and not ours to put back
        )

    # Longer than the ten seconds after which the agent looks at the Node again.
    stays(foreign_is_there, 12, "what others wrote is kept")


def test_a_deleted_node_comes_back_within_five_seconds(agent, cluster, watched):
    before = node_of(cluster)["metadata"]["uid"]
    cluster.delete(NODE)
    back = wait_for(
        lambda: (node_of(cluster) or {}).get("metadata", {}).get("uid") not in (None, before) and node_of(cluster),
        5,
        "the Node to come back",
    )
    assert faults(watched.added()[-1]) == []
    assert "unschedulable" not in back["spec"]
    assert "team" in [taint["key"] for taint in back["spec"]["taints"]], "a new Node gets the taints again"

    def owned():
        lease = cluster.get(LEASE)
        return lease and lease["metadata"]["ownerReferences"][0]["uid"] == back["metadata"]["uid"]

    # The garbage collector takes the old Node's lease with it.
    wait_for(owned, 25, "the lease to belong to the new Node")
    agent.wait_ready()


def test_a_deleted_lease_comes_back(agent, cluster):
    cluster.delete(LEASE)
    wait_for(lambda: cluster.get(LEASE), 13, "the lease to come back")


def test_the_agent_stops_at_once_and_leaves_the_node(agent, cluster):
    before = node_of(cluster)["metadata"]["uid"]
    began = time.monotonic()
    assert agent.stop() == 0
    assert time.monotonic() - began < 5
    assert node_of(cluster)["metadata"]["uid"] == before, "deleting the Node would fail every pod on it"


def test_the_agent_takes_its_node_over_again(agent, cluster):
    before = node_of(cluster)
    agent.start().wait_ready()
    after = node_of(cluster)
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert parse_time(condition(after, "Ready")["lastHeartbeatTime"]) >= parse_time(condition(before, "Ready")["lastHeartbeatTime"])
    assert agent.denials() == []
