"""Port 10250 to callers of all kinds: who is let in, with which words the others are sent away, and who we are to the API server."""

import http.client
import socket
import ssl
import subprocess

import pytest

from support import pods
from support.clusters import Cluster
from testbed import certs


@pytest.fixture(scope="module")
def agent(agents, bed, kubeconfig):
    return agents.make(bed, "security", provider="process", kubeconfig=kubeconfig).start().wait_ready()


@pytest.fixture(scope="module")
def token_of(local):
    """Token of a ServiceAccount that may do these things with nodes: pairs of verb and subresource."""

    def make(name, *rules):
        path = f"/api/v1/namespaces/{local.namespace}/serviceaccounts"
        local.api.call("POST", path, {"metadata": {"name": name}})
        objects = []
        if rules:
            role = f"e2e-{name}"
            objects = [
                {
                    "apiVersion": "rbac.authorization.k8s.io/v1",
                    "kind": "ClusterRole",
                    "metadata": {"name": role},
                    "rules": [{"apiGroups": [""], "resources": [f"nodes/{sub}"], "verbs": [verb]} for verb, sub in rules],
                },
                {
                    "apiVersion": "rbac.authorization.k8s.io/v1",
                    "kind": "ClusterRoleBinding",
                    "metadata": {"name": role},
                    "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
                    "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": local.namespace}],
                },
            ]
            local.apply(*objects)
            made.append(role)
        return local.kubectl("create", "token", name, "-n", local.namespace).strip()

    made = []
    yield make
    for role in made:
        local.delete(f"/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/{role}")
        local.delete(f"/apis/rbac.authorization.k8s.io/v1/clusterroles/{role}")


@pytest.mark.parametrize("path", ["/pods", "/metrics", "/healthz", "/containerLogs/a/b/c", "/exec/a/b/c?command=id&output=1"])
def test_anonymous_callers_get_401(agent, path):
    status, _, body = agent.call(path)
    assert (status, body) == (401, "Unauthorized")


@pytest.mark.parametrize("header", ["Bearer not.a.token", "Bearer x", "Basic YWRtaW46YWRtaW4="])
def test_a_bad_credential_gets_401(agent, header):
    status, _, body = agent.call("/pods", headers={"Authorization": header})
    assert (status, body) == (401, "Unauthorized")


def test_headers_of_a_front_proxy_are_not_believed(agent):
    headers = {"X-Remote-User": "admin", "X-Remote-Group": "system:masters", "Impersonate-User": "system:admin"}
    assert agent.call("/pods", headers=headers)[0] == 401


def test_a_client_certificate_of_another_authority_gets_401(agent, tmp_path):
    other = certs.Authority(tmp_path / "pki", "other", "other-ca")
    pair = other.issue("intruder", "kube-apiserver-kubelet-client", ["system:masters"])
    status, _, body = agent.call("/pods", client=pair)
    assert (status, body) == (401, "Unauthorized")


def test_a_serving_certificate_is_no_client_certificate(agent, bed):
    pki = bed.local.folder / "pki"
    # Of the right authority, but for servers only: our own kind.
    signed = bed.local.ca.sign_request(_request(pki), bed.local.folder / "e2e-signer", ["digital signature", "server auth"])
    (pki / "e2e-server.crt").write_text(signed)
    status, _, body = agent.call("/pods", client=(pki / "e2e-server.crt", pki / "e2e-server.key"))
    assert (status, body) == (401, "Unauthorized")


def _request(folder):
    certs.make_key(folder / "e2e-server.key")
    argv = ["openssl", "req", "-new", "-key", folder / "e2e-server.key", "-subj", "/O=system:masters/CN=admin"]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


def test_the_api_servers_own_certificate_is_let_in(agent, bed):
    pki = bed.local.folder / "pki"
    status, headers, body = agent.call("/pods", client=(pki / "apiserver-kubelet-client.crt", pki / "apiserver-kubelet-client.key"))
    assert status == 200 and headers["Content-Type"] == "application/json" and '"kind":"PodList"' in body.replace(" ", "")


def test_a_token_without_permission_gets_403_in_the_kubelets_words(agent, local, token_of):
    token = token_of("nobody")
    user = f"system:serviceaccount:{local.namespace}:nobody"
    for path, verb, subresources in (
        ("/pods", "get", "[pods proxy]"),
        ("/healthz", "get", "[healthz proxy]"),
        ("/configz", "get", "[configz proxy]"),
        ("/metrics", "get", "[metrics]"),
        ("/containerLogs/a/b/c", "get", "[proxy]"),
        ("/exec/a/b/c?command=id&output=1", "get", "[proxy]"),
    ):
        status, _, body = agent.call(path, token=token)
        assert (status, body) == (403, f"Forbidden (user={user}, verb={verb}, resource=nodes, subresource(s)={subresources})\n")
    status, _, body = agent.call("/exec/a/b/c?command=id&output=1", method="POST", token=token)
    assert (status, body) == (403, f"Forbidden (user={user}, verb=create, resource=nodes, subresource(s)=[proxy])\n")


def test_permission_for_metrics_opens_metrics_and_nothing_else(agent, local, token_of):
    token = token_of("scraper", ("get", "metrics"))
    status, headers, body = agent.call("/metrics", token=token)
    assert status == 200 and headers["Content-Type"].startswith("text/plain") and "# TYPE " in body
    assert "kubelet_certificate_manager_server_ttl_seconds" in body
    user = f"system:serviceaccount:{local.namespace}:scraper"
    assert agent.call("/pods", token=token)[::2] == (
        403,
        f"Forbidden (user={user}, verb=get, resource=nodes, subresource(s)=[pods proxy])\n",
    )
    assert agent.call("/exec/a/b/c?command=id&output=1", token=token)[0] == 403


def test_permission_for_pods_is_enough_for_pods(agent, token_of):
    token = token_of("lister", ("get", "pods"))
    assert agent.call("/pods", token=token)[0] == 200
    assert agent.call("/containerLogs/a/b/c", token=token)[0] == 403


def test_what_is_not_there_is_said_after_the_permission(agent, token_of):
    token = token_of("proxy", ("get", "proxy"), ("create", "proxy"))
    assert agent.call("/containerLogs/default/nothing/main", token=token)[::2] == (404, 'pod "nothing" does not exist')
    assert agent.call("/no-such-path", token=token)[0] == 404
    assert agent.call("/pods", method="DELETE", token=token)[0] in (403, 405)
    status, _, body = agent.call("/healthz", token=token)
    assert (status, body) == (200, "ok")


def test_the_certificate_is_the_nodes_own(agent, bed):
    certificate = agent.certificate()  # verified: authority, dates, address
    subject = {key: value for part in certificate["subject"] for key, value in part}
    assert subject == {"organizationName": "system:nodes", "commonName": "system:node:k8s.gpu"}
    assert ("IP Address", agent.address) in certificate["subjectAltName"]


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
def test_old_tls_is_refused(agent):
    context = agent.tls()
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    with socket.create_connection((agent.address, agent.port), 5) as plain:
        with pytest.raises((ssl.SSLError, OSError)):
            context.wrap_socket(plain, server_hostname=agent.address)


def test_plain_http_is_not_answered_with_anything_useful(agent):
    connection = http.client.HTTPConnection(agent.address, agent.port, timeout=5)
    try:
        connection.request("GET", "/pods")
        assert connection.getresponse().status >= 400
    except (http.client.HTTPException, OSError):
        pass
    finally:
        connection.close()


def test_the_api_server_reaches_us_and_verifies(agent, bed, local):
    # Started with --kubelet-certificate-authority; test_certificates.py shows that it refuses another certificate.
    assert any(argument.startswith("--kubelet-certificate-authority=") for argument in bed.local.component("kube-apiserver").argv)
    assert local.api.get("/api/v1/nodes/k8s.gpu/proxy/healthz") == "ok"
    assert local.api.get("/api/v1/nodes/k8s.gpu/proxy/pods")["kind"] == "PodList"


def test_pods_shows_the_published_status(agent, local):
    local.create_pod(pods.pod("shown", pods.UNTIL_TERM))
    local.wait_ready("shown")
    listed = local.api.get("/api/v1/nodes/k8s.gpu/proxy/pods")["items"]
    shown = [pod for pod in listed if pod["metadata"]["name"] == "shown"]
    assert len(shown) == 1 and shown[0]["status"]["phase"] == "Running"
    local.delete_pod("shown", 1)
    local.wait_pod_gone("shown", 10)
    assert Cluster(local.cluster, "default").get("/api/v1/nodes/k8s.gpu/proxy/pods")["items"] == []
