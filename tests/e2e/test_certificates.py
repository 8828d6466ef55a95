"""The serving certificate: asked for as whoever the agent is, approved by itself or by somebody else, refused, never issued, forged."""

import base64
import socket
import subprocess

import pytest

from support import access, pods
from support.clusters import Cluster, condition
from support.pod_tests import check_hello
from support.waiting import stays, wait_for
from testbed import AppServingSigner
from testbed.api import ApiError

CSRS = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
KUBELET_SERVING, APP_SERVING = "kubernetes.io/kubelet-serving", "beta.eks.amazonaws.com/app-serving"


@pytest.fixture
def cluster(bed):
    cluster = Cluster(bed.local, "default")
    for request in cluster.api.get(CSRS)["items"]:
        cluster.delete(f"{CSRS}/{request['metadata']['name']}")
    return cluster


@pytest.fixture
def start(agents, bed, kubeconfig, request):
    """Starts an agent that keeps no certificate of an earlier one."""
    made = []

    def starter(**options):
        name = f"cert-{request.node.name.removeprefix('test_')[:40]}-{len(made)}"
        made.append(agents.make(bed, name, **{"provider": "process", "kubeconfig": kubeconfig, **options}))
        return made[-1].start()

    yield starter
    agents.end(*made)


def requests(cluster):
    return cluster.api.get(CSRS)["items"]


def the_request(cluster):
    wait_for(lambda: requests(cluster), 20, "a certificate request")
    found = requests(cluster)
    assert len(found) == 1, [(item["metadata"]["name"], item["status"]) for item in found]
    return found[0]


def node_event(cluster, reason, timeout=20):
    return cluster.wait_event("k8s.gpu", reason, timeout, kind="Node", namespace="")[-1]


def forget_node_events(cluster):
    for event in cluster.events("k8s.gpu", "Node", ""):
        cluster.delete(f"/api/v1/namespaces/{event['metadata']['namespace']}/events/{event['metadata']['name']}")


def parsed(request):
    """What openssl reads in the request."""
    pem = base64.b64decode(request["spec"]["request"])
    return subprocess.run(["openssl", "req", "-noout", "-text", "-verify"], input=pem, capture_output=True, check=True).stdout.decode()


def serves(agent):
    """Whether the port completes a handshake that verifies."""
    try:
        return bool(agent.certificate())
    except OSError:
        return False


def port_is_open(agent):
    with socket.create_connection((agent.address, agent.port), 2):
        return True


def test_a_request_that_nobody_will_sign_is_approved_at_once(never_issued):
    """The complaint comes after two minutes; test_oldest_minor.py waits for it."""
    other = Cluster(never_issued.bed.local, "default")
    wait_for(lambda: [item for item in requests(other) if condition(item, "Approved").get("status") == "True"], 20, "the approval")
    status, text = never_issued.health("/readyz")
    assert status == 503 and "[-]certificate failed" in text, text


def test_kubelet_signer_as_a_service_account(start, cluster, bed):
    agent = start().wait_ready()
    request = the_request(cluster)
    spec = request["spec"]
    assert spec["signerName"] == KUBELET_SERVING
    assert sorted(spec["usages"]) == ["digital signature", "server auth"]
    assert spec["username"] == "system:serviceaccount:kube-system:k8sgpu"
    text = parsed(request)
    assert "Subject: O = system:nodes, CN = system:node:k8s.gpu" in text
    assert f"IP Address:{agent.address}" in text and "DNS:" not in text and "URI:" not in text and "email:" not in text
    approved = condition(request, "Approved")
    assert approved.get("status") == "True" and approved["reason"] and approved["message"]
    assert serves(agent)
    issued = node_event(cluster, "CertificateIssued")
    assert issued["type"] == "Normal" and "valid until" in issued["message"]
    assert agent.denials() == []


def test_only_its_own_request_is_approved(start, cluster, bed, tmp_path):
    """Somebody else's request with the very same subject and names stays pending: the key is not ours."""
    key = tmp_path / "k"
    argv = ["openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key]
    argv += ["-subj", "/O=system:nodes/CN=system:node:k8s.gpu", "-addext", f"subjectAltName=IP:{bed.agent_address}"]
    pem = subprocess.run(argv, check=True, capture_output=True).stdout
    foreign = {
        "metadata": {"name": "somebody-elses"},
        "spec": {
            "request": base64.b64encode(pem).decode(),
            "signerName": KUBELET_SERVING,
            "usages": ["digital signature", "server auth"],
        },
    }
    cluster.api.call("POST", CSRS, foreign)
    start().wait_ready()
    stays(lambda: not cluster.get(f"{CSRS}/somebody-elses")["status"], 2, "the foreign request is left alone")


def test_kubelet_signer_as_a_node(start, cluster, bed, request):
    objects = access.grant(cluster, "node-identity.yaml")
    # Nothing of the ServiceAccount's permissions may help.
    kubeconfig = bed.local.user_kubeconfig("e2e-node", "system:node:k8s.gpu", ["system:nodes"])
    agent = start(kubeconfig=kubeconfig).wait_ready()
    spec = the_request(cluster)["spec"]
    assert spec["username"] == "system:node:k8s.gpu" and "system:nodes" in spec["groups"]
    assert serves(agent)
    labels = cluster.get("/api/v1/nodes/k8s.gpu")["metadata"]["labels"]
    assert "kubernetes.io/role" not in labels, "a node identity may not set it"

    local = Cluster(bed.local, "e2e-as-node")
    local.create_namespace("e2e-as-node")
    check_hello(local)
    # The Node authorizer opens a ConfigMap to us only through a pod that names it.
    local.apply(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "colors", "namespace": local.namespace}, "data": {"COLOR": "green"}}
    )
    pod = pods.pod("configured", "echo $COLOR")
    pod["spec"]["containers"][0]["envFrom"] = [{"configMapRef": {"name": "colors"}}]
    local.create_pod(pod)
    local.wait_phase("configured", "Succeeded")
    assert local.kubectl("logs", "configured", "-n", local.namespace) == "green\n"
    # A pod that is gone may no longer be asked for by its name; it must be seen to be gone all the same.
    local.create_pod(pods.pod("forced", pods.UNTIL_TERM))
    uid = local.wait_ready("forced")["metadata"]["uid"]
    local.delete_pod("forced", 0)
    wait_for(lambda: not agent.processes_of(uid), 15, "the processes of a force-deleted pod to end")
    # A deleted Node comes back without what NodeRestriction forbids.
    before = cluster.get("/api/v1/nodes/k8s.gpu")["metadata"]["uid"]
    cluster.delete("/api/v1/nodes/k8s.gpu")
    wait_for(
        lambda: (cluster.get("/api/v1/nodes/k8s.gpu") or {"metadata": {"uid": before}})["metadata"]["uid"] != before,
        5,
        "the Node to come back",
    )
    agent.wait_ready()
    local.delete_pod("configured")
    local.wait_pod_gone("configured", 10)
    local.delete("/api/v1/namespaces/e2e-as-node")
    assert agent.denials() == []
    agent.stop()
    for object_ in objects:
        cluster.kubectl(
            "delete", object_["kind"].lower(), object_["metadata"]["name"], "-n", object_["metadata"].get("namespace", "default")
        )


def test_aws_signer_issues(start, cluster, bed):
    with AppServingSigner(bed.local, "issue"):
        agent = start(csr_signer="aws").wait_ready()
        assert the_request(cluster)["spec"]["signerName"] == APP_SERVING
        assert serves(agent)
        assert cluster.api.get("/api/v1/nodes/k8s.gpu/proxy/healthz") == "ok"
        assert agent.denials() == []


def test_aws_signer_as_a_node(start, cluster, bed):
    """EKS: the node's IAM role is the user, and the kubelet-serving signer does not sign for it."""
    objects = access.grant(cluster, "node-identity.yaml")
    kubeconfig = bed.local.user_kubeconfig("e2e-node", "system:node:k8s.gpu", ["system:nodes"])
    with AppServingSigner(bed.local, "issue"):
        agent = start(kubeconfig=kubeconfig, csr_signer="aws").wait_ready()
        spec = the_request(cluster)["spec"]
        assert (spec["signerName"], spec["username"]) == (APP_SERVING, "system:node:k8s.gpu")
        assert serves(agent)
        agent.stop()
    for object_ in objects:
        cluster.kubectl(
            "delete", object_["kind"].lower(), object_["metadata"]["name"], "-n", object_["metadata"].get("namespace", "default")
        )


def test_a_refusal_of_the_signer_is_shown(start, cluster, bed):
    forget_node_events(cluster)
    with AppServingSigner(bed.local, "refuse"):
        agent = start(csr_signer="aws")
        event = node_event(cluster, "CertificateFailed")
        assert event["type"] == "Warning"
        for words in (APP_SERVING, "SignerValidationFailure", "the test bed's signer refuses every request"):
            assert words in event["message"], event["message"]
        assert "CertificateFailed" in agent.log()
        assert not serves(agent) and port_is_open(agent)
        status, text = agent.health("/readyz")
        assert status == 503 and "certificate" in text
        assert agent.health("/healthz")[0] == 200, "a restart would not help"


def test_approval_by_somebody_else_is_waited_for(start, cluster):
    forget_node_events(cluster)
    agent = start(csr_approve="false")
    request = the_request(cluster)
    name = request["metadata"]["name"]
    event = node_event(cluster, "CertificateWaitingForApproval")
    assert f"kubectl certificate approve {name}" in event["message"]
    assert f"kubectl certificate approve {name}" in agent.log()
    assert the_request(cluster)["status"] == {}
    # The node works meanwhile; only calls to its port fail, and the port says so by a failed handshake.
    assert port_is_open(agent) and not serves(agent)
    assert agent.health("/readyz")[0] == 503
    cluster.kubectl("certificate", "approve", name)
    wait_for(lambda: serves(agent), 10, "the approved certificate to be served")
    agent.wait_ready()


def test_a_denial_is_shown_and_the_old_certificate_stays(start, cluster):
    forget_node_events(cluster)
    agent = start(csr_approve="false")
    name = the_request(cluster)["metadata"]["name"]
    cluster.kubectl("certificate", "deny", name)
    event = node_event(cluster, "CertificateDenied")
    assert event["type"] == "Warning" and name in event["message"] and "KubectlDeny" in event["message"], event["message"]
    assert "CertificateDenied" in agent.log()
    # It asks again after a while, and takes a yes then.
    again = wait_for(lambda: [item for item in requests(cluster) if item["metadata"]["name"] != name], 30, "another request")[0]
    cluster.kubectl("certificate", "approve", again["metadata"]["name"])
    wait_for(lambda: serves(agent), 10, "the approved certificate to be served")


def test_the_certificate_survives_in_a_secret(start, cluster):
    options = {"cert_secret": "k8sgpu-serving-cert", "env": {"POD_NAMESPACE": "kube-system"}}
    path = "/api/v1/namespaces/kube-system/secrets/k8sgpu-serving-cert"
    cluster.delete(path)
    first = start(**options).wait_ready()
    serial = first.certificate()["serialNumber"]
    assert cluster.get(path)["type"] == "kubernetes.io/tls"
    assert first.stop() == 0
    second = start(**options).wait_ready()
    assert second.certificate()["serialNumber"] == serial
    assert len(requests(cluster)) == 1
    assert second.denials() == []
    cluster.delete(path)


@pytest.mark.needs_namespaces
def test_another_address_asks_for_another_certificate(start, cluster, bed):
    """Restarted with the same directory at an address that the stored certificate does not name."""
    first = start().wait_ready()
    serial = first.certificate()["serialNumber"]
    assert first.stop() == 0
    bed.run_in_agent_ns(["ip", "addr", "add", f"{bed.agent_address.rsplit('.', 1)[0]}.31/24", "dev", "eth0"], check=True)
    try:
        second = start(node_ip=f"{bed.agent_address.rsplit('.', 1)[0]}.31", cert_dir=first.state / "pki")
        second.address = f"{bed.agent_address.rsplit('.', 1)[0]}.31"
        second.wait_ready()
        # The old one is served until the new one is there.
        wait_for(lambda: serves(second) and second.certificate()["serialNumber"] != serial, 15, "a certificate for the new address")
        wait_for(
            lambda: cluster.get("/api/v1/nodes/k8s.gpu")["status"]["addresses"] == [{"type": "InternalIP", "address": second.address}],
            10,
            "the Node's new address",
        )
        assert cluster.api.get("/api/v1/nodes/k8s.gpu/proxy/healthz") == "ok"
    finally:
        bed.run_in_agent_ns(["ip", "addr", "del", f"{bed.agent_address.rsplit('.', 1)[0]}.31/24", "dev", "eth0"], check=True)


def test_the_api_server_refuses_a_certificate_of_another_authority(start, cluster, bed, tmp_path):
    """What the other tests of logs and exec rest on: with a certificate that nobody trusts they would fail."""
    pki = tmp_path / "pki"
    pki.mkdir()
    argv = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "30",
        "-keyout",
        pki / "key",
    ]
    argv += ["-subj", "/O=system:nodes/CN=system:node:k8s.gpu", "-addext", f"subjectAltName=IP:{bed.agent_address}"]
    argv += ["-addext", "extendedKeyUsage=serverAuth"]
    certificate = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
    (pki / "kubelet-server-current.pem").write_text(certificate + (pki / "key").read_text())
    (pki / "kubelet-server-current.pem").chmod(0o600)
    start(cert_dir=pki).wait_ready()
    with pytest.raises(ApiError, match="certificate signed by unknown authority"):
        cluster.api.get("/api/v1/nodes/k8s.gpu/proxy/healthz")
