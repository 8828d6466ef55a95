"""Port 10250 to callers of all kinds: who is let in, with which words the others are sent away, and who we are to the API server."""

import http.client
import socket
import ssl
import subprocess
import time

import pytest

from support import access, pods
from support.clusters import Cluster
from support.waiting import wait_for
from testbed import certs


@pytest.fixture(scope="module")
def client_ca(bed, tmp_path_factory):
    """A file of authorities beside those of the cluster, for --client-ca-file."""
    path = tmp_path_factory.mktemp("client-ca") / "ca.crt"
    path.write_text(bed.local.ca.certificate.read_text())
    return path


@pytest.fixture(scope="module")
def agent(agents, bed, kubeconfig, client_ca):
    return agents.make(bed, "security", provider="process", kubeconfig=kubeconfig, client_ca_file=client_ca).start().wait_ready()


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


def test_an_authority_that_is_added_while_we_run_is_believed(agent, client_ca, tmp_path):
    other = certs.Authority(tmp_path / "pki", "added", "added-ca")
    pair = other.issue("newcomer", "newcomer", ["some-group"])
    assert agent.call("/pods", client=pair)[0] == 401
    client_ca.write_text(client_ca.read_text() + other.certificate.read_text())
    wait_for(lambda: agent.call("/pods", client=pair)[0] != 401, 30, "the new authority to be believed")
    status, _, body = agent.call("/pods", client=pair)
    # Known now, and still not allowed anything.
    assert (status, body) == (403, "Forbidden (user=newcomer, verb=get, resource=nodes, subresource(s)=[pods proxy])\n")


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


@pytest.mark.parametrize(
    "path, subresource",
    [("/stats/summary", "stats"), ("/metrics/resource", "metrics"), ("/logs/", "log"), ("/configz", "configz"), ("/healthz", "healthz")],
)
def test_every_part_has_a_permission_of_its_own(agent, token_of, path, subresource):
    token = token_of(f"only-{subresource}", ("get", subresource))
    assert agent.call(path, token=token)[0] == (405 if path == "/logs/" else 200)
    assert agent.call("/containerLogs/a/b/c", token=token)[0] == 403
    assert agent.call("/run/a/b/c?cmd=id", method="POST", token=token)[0] == 403


def test_proxy_stands_for_pods_health_and_configuration_only(agent, token_of):
    token = token_of("old-style", ("get", "proxy"))
    assert [agent.call(path, token=token)[0] for path in ("/pods", "/runningpods/", "/healthz", "/configz")] == [200] * 4
    assert [agent.call(path, token=token)[0] for path in ("/metrics", "/stats/summary", "/logs/")] == [403] * 3
    assert agent.call("/checkpoint/a/b/c", method="POST", token=token)[0] == 403


def test_a_token_for_somebody_else_gets_401(agent, local, token_of):
    token_of("elsewhere", ("get", "pods"))
    token = local.kubectl("create", "token", "elsewhere", "-n", local.namespace, "--audience=vault").strip()
    assert agent.call("/pods", token=token)[::2] == (401, "Unauthorized")


def test_a_cluster_that_does_not_answer_our_questions_opens_nothing(agent, local, token_of, request):
    known = token_of("known", ("get", "pods"), ("get", "metrics"))
    assert agent.call("/pods", token=known)[0] == 200
    role = next(object_ for object_ in access.manifest("rbac.yaml") if object_["kind"] == "ClusterRole")
    path = f"/apis/rbac.authorization.k8s.io/v1/clusterroles/{role['metadata']['name']}"
    questions = ("tokenreviews", "subjectaccessreviews")
    request.addfinalizer(lambda: local.patch(path, {"rules": role["rules"]}))
    local.patch(path, {"rules": [rule for rule in role["rules"] if not set(questions) & set(rule.get("resources", []))]})
    stranger = token_of("stranger", ("get", "pods"))
    account = "system:serviceaccount:{}:{}".format(*access.service_account(access.manifest("rbac.yaml")))
    can = ("auth", "can-i", "create", "subjectaccessreviews.authorization.k8s.io", f"--as={account}")
    wait_for(lambda: local.run(*can).stdout.strip() == "no", 20, "the permission to ask to be gone")
    user = f"system:serviceaccount:{local.namespace}:known"
    assert agent.call("/metrics", token=known)[::2] == (
        500,
        f"Authorization error (user={user}, verb=get, resource=nodes, subresource=metrics)\n",
    )
    assert agent.call("/pods", token=stranger)[::2] == (401, "Unauthorized"), "nobody could say who that is"
    assert agent.call("/pods", token=known)[0] == 200, "asked within the last five minutes"
    local.patch(path, {"rules": role["rules"]})
    wait_for(lambda: agent.call("/metrics", token=known)[0] == 200, 20, "the permission to ask to be back")
    assert agent.call("/pods", token=stranger)[0] == 200


def test_a_permission_that_was_given_counts_after_half_a_minute(agent, local, token_of):
    token = token_of("later")
    assert agent.call("/metrics", token=token)[0] == 403
    began = time.monotonic()
    role = "e2e-scraper"  # of the test above
    local.apply(
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": role},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": local.namespace} for name in ("scraper", "later")],
        }
    )
    wait_for(lambda: agent.call("/metrics", token=token)[0] == 200, 45, "the refusal to be forgotten")
    assert time.monotonic() - began > 15, "the refusal was not remembered"


@pytest.mark.parametrize(
    "request_text, status",
    [
        ("GARBAGE\r\n\r\n", 400),
        ("GET /healthz HTTP/2.0\r\nHost: n\r\n\r\n", 505),
        ("GET /healthz HTTP/1.1\r\nX: " + "a" * (2 << 20) + "\r\n\r\n", 431),
        ("POST /run/a/b/c HTTP/1.1\r\nHost: n\r\nContent-Length: 99999999\r\n\r\n", 413),
        ("POST /run/a/b/c HTTP/1.1\r\nHost: n\r\nTransfer-Encoding: chunked\r\n\r\n", 411),
    ],
)
def test_malformed_requests_get_their_code_and_we_go_on(agent, request_text, status):
    with socket.create_connection((agent.address, agent.port), 5) as plain:
        with agent.tls().wrap_socket(plain, server_hostname=agent.address) as stream:
            try:
                stream.sendall(request_text.encode())
            except OSError:
                pass  # answered before everything was sent
            answer = b""
            try:
                while not answer.endswith(b"\r\n\r\n") and (part := stream.recv(65536)):
                    answer += part
            except OSError:
                pass
    assert answer.startswith(f"HTTP/1.1 {status} ".encode()), answer[:200]
    assert agent.health("/healthz")[0] == 200
    assert agent.call("/healthz")[0] == 401


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
