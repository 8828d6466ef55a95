"""What pods use, as metrics-server, kubectl top, Prometheus and the summary's readers see it, through forwarded pods."""

import re

import pytest
from prometheus_client.parser import text_string_to_metric_families

from support import access, pods
from support.clusters import Cluster
from support.metrics_server import MetricsServer
from support.waiting import wait_for

pytestmark = pytest.mark.needs_remote

SUMMARIES = "e2e-tenant-summaries"
BURN = "trap 'exit 0' TERM; echo started; while :; do :; done"


def scrape(text):
    """(sample name, labels) → (value, time in seconds or None), and family → type. Fails where Prometheus would."""
    samples, types = {}, {}
    for family in text_string_to_metric_families(text):
        assert family.name not in types, f"family {family.name} twice"
        types[family.name] = family.type
        for sample in family.samples:
            key = (sample.name, tuple(sorted(sample.labels.items())))
            assert key not in samples, f"sample {key} twice"
            samples[key] = (sample.value, sample.timestamp)
    return samples, types


def raw(cluster, path, node="k8s.gpu"):
    return cluster.kubectl("get", "--raw", f"/api/v1/nodes/{node}/proxy{path}")


def cores(text):
    """"12m" or "1" as kubectl prints it, in thousandths."""
    return int(text[:-1]) if text.endswith("m") else int(text) * 1000


def mebibytes(text):
    assert text.endswith("Mi"), text
    return int(text[:-2])


@pytest.fixture(scope="module")
def remote(bed):
    return Cluster(bed.remote, access.TENANT)


@pytest.fixture(scope="module")
def summaries(remote, remote_kubeconfig):
    """The optional permission of docs/kubelet-api.md: without a metrics API at the remote, the summaries of its nodes."""
    remote.apply(
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": {"name": SUMMARIES},
            "rules": [{"apiGroups": [""], "resources": ["nodes/proxy"], "verbs": ["get"]}],
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": SUMMARIES},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": SUMMARIES},
            "subjects": [{"kind": "ServiceAccount", "name": "k8sgpu", "namespace": access.TENANT}],
        },
    )
    yield
    remote.delete(f"/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/{SUMMARIES}")
    remote.delete(f"/apis/rbac.authorization.k8s.io/v1/clusterroles/{SUMMARIES}")


@pytest.fixture(scope="module")
def agent(agents, bed, kubeconfig, remote_kubeconfig, summaries):
    options = {"remote_kubeconfig": remote_kubeconfig, "capacity": "cpu=8,memory=16Gi"}
    return agents.make(bed, "metrics", kubeconfig=kubeconfig, **options).start().wait_ready()


@pytest.fixture(scope="module")
def busy(local):
    local.create_pod(pods.pod("busy", BURN))
    local.wait_ready("busy")
    wait_for(lambda: measured(local, "busy"), 60, "figures of pod busy in the summary")
    return local.pod("busy")


def measured(local, name):
    summary = local.api.get("/api/v1/nodes/k8s.gpu/proxy/stats/summary")
    found = [pod for pod in summary["pods"] if pod["podRef"]["name"] == name and pod["podRef"]["namespace"] == local.namespace]
    return found[0] if found and found[0]["containers"] and found[0]["containers"][0].get("cpu") else None


def test_the_summary_shows_the_remote_kubelets_figures_under_local_names(local, remote, busy):
    uid = busy["metadata"]["uid"]
    copy = remote.pods(f"k8s.gpu/pod-uid={uid}")[0]
    ours = measured(local, "busy")
    assert ours["podRef"]["uid"] == uid
    theirs = remote.api.get(f"/api/v1/nodes/{copy['spec']['nodeName']}/proxy/stats/summary")
    theirs = next(pod for pod in theirs["pods"] if pod["podRef"]["uid"] == copy["metadata"]["uid"])
    there = theirs["containers"][0]
    here = ours["containers"][0]
    assert here["name"] == there["name"] and here["startTime"] == there["startTime"]
    # Read some seconds apart, of a container that burns at most a core.
    later = there["cpu"]["usageCoreNanoSeconds"] - here["cpu"]["usageCoreNanoSeconds"]
    assert 0 <= later < 60e9
    assert here["memory"]["workingSetBytes"] > 0
    assert "capacityBytes" not in ours.get("ephemeral-storage", {}), "the operator's disk is nothing of the tenant's"
    brief = local.api.get("/api/v1/nodes/k8s.gpu/proxy/stats/summary?only_cpu_and_memory=true")
    assert all(set(pod) <= {"podRef", "startTime", "containers", "cpu", "memory", "swap"} for pod in brief["pods"])
    assert brief["node"]["nodeName"] == "k8s.gpu" and brief["node"]["cpu"]["usageCoreNanoSeconds"] > 0


@pytest.mark.parametrize("path", ["/metrics", "/metrics/resource", "/metrics/cadvisor", "/metrics/probes", "/metrics/slis"])
def test_every_scrape_is_what_prometheus_reads(local, busy, path):
    _, types = scrape(raw(local, path))
    assert set(types.values()) <= {"counter", "gauge", "histogram", "summary"}


def test_resource_metrics_have_the_kubelets_names_types_and_times(local, remote, busy):
    samples, types = scrape(raw(local, "/metrics/resource"))
    node = remote.pods(f"k8s.gpu/pod-uid={busy['metadata']['uid']}")[0]["spec"]["nodeName"]
    _, theirs = scrape(raw(remote, "/metrics/resource", node))
    # The old name of resource_scrape_error: kubelets show it no more, their older scrapers may look for it.
    assert types.pop("scrape_error") == "gauge"
    assert set(types) <= set(theirs) and all(types[name] == theirs[name] for name in types)
    container = (("container", "main"), ("namespace", local.namespace), ("pod", "busy"))
    value, time = samples[("container_cpu_usage_seconds_total", container)]
    assert value > 0 and time is not None
    assert samples[("container_start_time_seconds", container)][1] is None, "the only one without a time"
    assert samples[("resource_scrape_error", ())][0] == 0
    assert samples[("node_cpu_usage_seconds_total", ())][0] >= value
    wait_for(
        lambda: scrape(raw(local, "/metrics/resource"))[0][("container_cpu_usage_seconds_total", container)][1] > time,
        60,
        "a later reading",
    )


def test_cadvisor_metrics_are_a_part_of_the_kubelets(local, remote, busy):
    samples, types = scrape(raw(local, "/metrics/cadvisor"))
    node = remote.pods(f"k8s.gpu/pod-uid={busy['metadata']['uid']}")[0]["spec"]["nodeName"]
    theirs, their_types = scrape(raw(remote, "/metrics/cadvisor", node))
    assert all(types[name] == their_types[name] for name in types if name in their_types)
    compared = ("container_cpu_usage_seconds_total", "container_memory_working_set_bytes")
    labels = {name: {key for key, _ in found} for name, found in theirs if name in compared}
    for name, expected in labels.items():
        mine = [set(key for key, _ in found) for sample, found in samples if sample == name]
        assert mine and all(one == expected for one in mine), name
    ours = [dict(found) for name, found in samples if name == "container_cpu_usage_seconds_total"]
    assert any(one["pod"] == "busy" and one["container"] == "main" and one["namespace"] == local.namespace for one in ours)


def test_kubectl_top_through_the_real_metrics_server(local, busy, request):
    server = MetricsServer(local)
    request.addfinalizer(server.stop)
    server.start()

    def top(*arguments):
        done = local.run("top", *arguments, "--no-headers")
        return done.stdout.split() if done.returncode == 0 else None

    pod = wait_for(lambda: top("pod", "busy", "-n", local.namespace), 90, lambda: f"kubectl top pod; {server.log()}")
    assert pod[0] == "busy" and cores(pod[1]) > 50 and re.fullmatch(r"\d+Mi", pod[2]), pod
    contained = top("pod", "busy", "-n", local.namespace, "--containers")
    assert contained[:2] == ["busy", "main"]
    node = wait_for(lambda: top("node", "k8s.gpu"), 60, lambda: f"kubectl top node; {server.log()}")
    assert node[0] == "k8s.gpu" and cores(node[1]) >= cores(pod[1]) * 0.5 and mebibytes(node[3]) > 0, node


def test_the_remote_metrics_api_is_enough_without_nodes(local, remote, busy, summaries, request, agents, bed, agent):
    """With a metrics-server over there and the optional rule in the Role, no permission on nodes is needed."""
    server = MetricsServer(remote)
    request.addfinalizer(server.stop)
    server.start()
    top = ("top", "pod", "-n", access.TENANT, "--no-headers")
    wait_for(lambda: remote.run(*top).returncode == 0, 90, lambda: f"kubectl top at the remote cluster; {server.log()}")
    role = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{access.TENANT}/roles/k8sgpu"
    before = remote.get(role)["rules"]
    request.addfinalizer(lambda: remote.patch(role, {"rules": before}))
    remote.patch(role, {"rules": [*before, {"apiGroups": ["metrics.k8s.io"], "resources": ["pods"], "verbs": ["list"]}]})
    remote.delete(f"/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/{SUMMARIES}")
    agent.stop()  # a fresh one asks at once; a running one asks again after minutes
    agent.start().wait_ready()
    shown = wait_for(lambda: measured(local, "busy"), 60, "figures of pod busy by the metrics API")
    cpu = shown["containers"][0]["cpu"]
    assert cpu["usageNanoCores"] > 50_000_000 and cpu["usageCoreNanoSeconds"] > 0
    assert "rssBytes" not in shown["containers"][0]["memory"], "metrics.k8s.io does not tell it"
