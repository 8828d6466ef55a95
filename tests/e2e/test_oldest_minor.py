"""The oldest Kubernetes minor that is supported: a node, one pod, its logs, an exec, its deletion, with either provider."""

import time

import pytest

from support import access, pods
from support.clusters import Cluster, condition
from support.node_lint import faults
from support.pod_tests import check_hello
from support.waiting import wait_for

pytestmark = pytest.mark.oldest_minor


@pytest.fixture(scope="module")
def kubeconfig(oldest_bed):
    return access.local_kubeconfig(Cluster(oldest_bed.local, "default"))


@pytest.fixture
def local(oldest_bed):
    cluster = Cluster(oldest_bed.local, "e2e-oldest")
    cluster.create_namespace("e2e-oldest")
    return cluster


@pytest.fixture
def start(agents, oldest_bed, kubeconfig):
    made = []

    def starter(name, **options):
        made.append(agents.make(oldest_bed, name, kubeconfig=kubeconfig, **options))
        return made[-1].start().wait_ready()

    yield starter
    agents.end(*made)


def check(agent, local):
    node = local.get("/api/v1/nodes/k8s.gpu")
    assert faults(node) == []
    version = local.api.get("/version")
    assert version["minor"] == "30", version
    assert node["status"]["nodeInfo"]["kubeletVersion"].startswith(version["gitVersion"].split("+")[0])
    check_hello(local)
    # This API server drops fields of later ones: that must not make us write the same status again and again.
    local.create_pod(pods.pod("quiet", pods.UNTIL_TERM))
    local.wait_ready("quiet")
    wait_for(lambda: _settled(local, "quiet"), 10, "the status to settle")
    local.delete_pod("quiet", 1)
    local.wait_pod_gone("quiet", 15)
    assert agent.stop() == 0
    assert agent.denials() == []


def _settled(local, name):
    version = local.pod(name)["metadata"]["resourceVersion"]
    time.sleep(2)
    return local.pod(name)["metadata"]["resourceVersion"] == version


def test_processes(start, local):
    check(start("oldest-process", provider="process"), local)


@pytest.mark.needs_remote
def test_a_remote_cluster(start, local, oldest_bed):
    remote = Cluster(oldest_bed.remote, access.TENANT)
    kubeconfig = access.tenant_kubeconfig(remote)
    agent = start("oldest-kubernetes", remote_kubeconfig=kubeconfig, capacity="cpu=64,memory=256Gi,nvidia.com/gpu=8")
    check(agent, local)
    # The remote kubelet removes it for good, a moment after its containers have ended.
    wait_for(lambda: not remote.pods(), 15, "the remote pods to be gone")


def test_an_approved_request_that_nobody_signs_is_shown(never_issued):
    """Started with the tests of certificates: it takes two minutes until the agent is sure enough to complain."""
    cluster = Cluster(never_issued.bed.local, "default")
    requests = cluster.api.get("/apis/certificates.k8s.io/v1/certificatesigningrequests")["items"]
    request = [item for item in requests if item["spec"]["signerName"] == "beta.eks.amazonaws.com/app-serving"][0]
    assert condition(request, "Approved").get("status") == "True"
    event = cluster.wait_event(never_issued.node, "CertificateNotIssued", 150, kind="Node", namespace="")[0]
    assert event["type"] == "Warning"
    for words in (request["metadata"]["name"], "beta.eks.amazonaws.com/app-serving", "--csr-signer=kubelet"):
        assert words in event["message"], event["message"]
    assert "CertificateNotIssued" in never_issued.log()
    status, text = never_issued.health("/readyz")
    assert status == 503 and "certificate" in text
