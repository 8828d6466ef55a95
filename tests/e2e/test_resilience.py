"""A cut link, an API server that is down, a slow provider: nothing is lost, doubled or evicted, and the heartbeat goes on. Twice: as the
ServiceAccount of rbac.yaml, which may set taints, and as a node identity, which may not."""

import json
import time
from datetime import datetime, timezone

import pytest

from support import access, pods
from support.clusters import Cluster, condition, states
from support.following import CreationWatch
from support.waiting import stays, wait_for

pytestmark = [pytest.mark.needs_remote, pytest.mark.needs_namespaces]

NODE = "/api/v1/nodes/k8s.gpu"
LEASE = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/k8s.gpu"
TAINT = "k8s.gpu/remote-unreachable"
OURS = "k8s.gpu/pod-uid"


@pytest.fixture(scope="module", params=["service-account", "node-identity"])
def identity(request):
    return request.param


@pytest.fixture(scope="module")
def agent(agents, bed, identity, kubeconfig, remote_kubeconfig):
    cluster = Cluster(bed.local, "default")
    granted = []
    if identity == "node-identity":
        granted = access.grant(cluster, "node-identity.yaml")
        kubeconfig = bed.local.user_kubeconfig("e2e-node", "system:node:k8s.gpu", ["system:nodes"])
    options = {"remote_kubeconfig": remote_kubeconfig, "capacity": "cpu=64,memory=256Gi,nvidia.com/gpu=8"}
    agent = agents.make(bed, f"resilience-{identity}", kubeconfig=kubeconfig, **options).start().wait_ready()
    yield agent
    agents.end(agent)
    if granted:
        cluster.kubectl("delete", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": granted}))


@pytest.fixture(scope="module")
def remote(bed):
    return Cluster(bed.remote, access.TENANT)


def uids_of(local):
    return {pod["metadata"]["uid"] for pod in local.pods() if pod["status"]["phase"] not in ("Succeeded", "Failed")}


def remote_uids(remote):
    found = [pod["metadata"]["labels"].get(OURS) for pod in remote.pods()]
    assert len(found) == len(set(found)), f"a pod has two copies: {found}"
    return set(found)


def wait_converged(local, remote, timeout):
    wait_for(
        lambda: uids_of(local) == remote_uids(remote),
        timeout,
        lambda: f"both sides to agree: here {uids_of(local)}, there {remote_uids(remote)}",
        interval=0.5,
    )


def taints(local):
    return [taint["key"] for taint in local.get(NODE)["spec"].get("taints", [])]


def reachable(local):
    return condition(local.get(NODE), "RemoteReachable")


def lease_age(local):
    renewed = datetime.strptime(local.get(LEASE)["spec"]["renewTime"], "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=timezone.utc)
    return (datetime.now(timezone.utc) - renewed).total_seconds()


def closed_to_new_pods(local, identity):
    if identity == "service-account":
        return TAINT in taints(local)
    status = local.get(NODE)["status"]
    return int(status["allocatable"]["pods"]) < int(status["capacity"]["pods"])


def test_a_cut_link_to_the_remote_cluster_loses_doubles_and_evicts_nothing(agent, identity, local, remote, bed):
    created = CreationWatch(remote)
    for name in ("steady", "doomed", "leaving"):
        local.create_pod(pods.pod(name, pods.UNTIL_TERM))
    local.create_pod(pods.pod("ending", "sleep 20; exit 3"))
    for name in ("steady", "doomed", "leaving", "ending"):
        local.wait_ready(name)
    steady = local.pod("steady")
    bed.link("cut", "remote")
    try:
        cut = time.monotonic()
        local.delete_pod("doomed")
        local.create_pod(pods.pod("late", pods.UNTIL_TERM, nodeName="k8s.gpu", runtimeClassName=None))
        wait_for(lambda: reachable(local).get("status") == "False", 60, "the Node to say that its provider cannot be reached", interval=0.5)
        assert "; since 20" in reachable(local)["message"]
        wait_for(lambda: closed_to_new_pods(local, identity), 30, lambda: f"the node to be closed: {json.dumps(local.get(NODE))}", 0.5)
        # One that needs the scheduler waits there, and not on a node that cannot run it.
        local.create_pod(pods.pod("kept-away", pods.UNTIL_TERM))
        event = local.wait_event("kept-away", "FailedScheduling")[0]["message"]
        assert ("untolerated taint" if identity == "service-account" else "Too many pods") in event, event
        local.delete_pod("leaving")
        local.kubectl("delete", "pod", "ending", "--force", "--grace-period=0", "-n", local.namespace)
        assert lease_age(local) < 15
        stays(
            lambda: condition(local.get(NODE), "Ready")["status"] == "True" and lease_age(local) < 15,
            max(5, 65 - (time.monotonic() - cut)),
            "the node stays Ready, and its lease is renewed",
            interval=1,
        )
        now = local.pod("steady")
        assert now["status"] == steady["status"], "pods keep their last status"
        for name in ("doomed", "leaving"):
            assert local.pod(name)["metadata"].get("deletionTimestamp"), "a deletion waits for the provider"
    finally:
        bed.link("restore", "remote")
    wait_for(lambda: reachable(local).get("status") == "True", 60, "the Node to say that its provider is back", interval=0.5)
    wait_for(lambda: not closed_to_new_pods(local, identity), 20, "the node to be open again", interval=0.5)
    for name in ("doomed", "leaving"):
        local.wait_pod_gone(name, 60)
    for name in ("late", "kept-away"):
        local.wait_ready(name, 90)
    wait_converged(local, remote, 120)
    assert states(local.pod("steady")) == states(steady)
    created.stop()
    assert max(created.created.values()) == 1, created.created
    for event in ("RemoteUnreachable", "RemoteReachable"):
        local.wait_event("k8s.gpu", event, kind="Node", namespace="")
    for name in ("steady", "late", "kept-away"):
        local.delete_pod(name, 1)
    local.wait_pod_gone("steady", 30)
    # Later, an API server that has just started refuses much.
    assert agent.denials() == []


def test_an_api_server_that_is_down_stops_no_pod_and_statuses_converge(agent, local, remote, bed):
    created = CreationWatch(remote)
    local.create_pod(pods.pod("running-on", pods.UNTIL_TERM))
    local.create_pod(pods.pod("finishing", "sleep 8; exit 4"))
    local.create_pod(pods.pod("going", pods.UNTIL_TERM))
    before = local.wait_ready("running-on")
    local.wait_ready("finishing")
    local.wait_ready("going")
    server = bed.local.component("kube-apiserver")
    local.delete_pod("going", 30)
    server.stop()
    try:
        time.sleep(45)
        copies = {pod["metadata"]["labels"][OURS]: pod for pod in remote.pods()}
        assert copies[before["metadata"]["uid"]]["status"]["phase"] == "Running"
        assert agent.running() and agent.health("/healthz")[0] == 200
    finally:
        bed.local.start_component("kube-apiserver")
    local.wait_phase("finishing", "Failed", 60)
    assert states(local.pod("finishing"))["main"]["state"]["terminated"]["exitCode"] == 4
    local.wait_pod_gone("going", 60)
    agent.wait_ready()
    assert states(local.pod("running-on")) == states(before)
    local.delete_pod("finishing")
    local.wait_pod_gone("finishing", 20)
    wait_converged(local, remote, 60)
    created.stop()
    assert max(created.created.values(), default=1) == 1, created.created
    local.delete_pod("running-on", 1)
    local.wait_pod_gone("running-on", 30)


def test_the_heartbeat_waits_for_nothing_that_is_slow(agent, local, bed):
    bed.link("slow", "remote")
    try:
        for number in range(12):
            local.create_pod(pods.pod(f"slow-{number}", pods.UNTIL_TERM))
        worst = 0.0
        end = time.monotonic() + 25
        while time.monotonic() < end:
            worst = max(worst, lease_age(local))
            time.sleep(0.5)
        assert worst < 13, f"the lease was {worst:.1f} s old although it is renewed every 10 s"
    finally:
        bed.link("restore", "remote")
    for number in range(12):
        local.wait_ready(f"slow-{number}", 90)
    local.clear()
