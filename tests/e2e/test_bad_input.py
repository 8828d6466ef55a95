"""What people get wrong: each mistake is answered with one line that says what to do, at once where no time heals it."""

import base64
import re
import time

import pytest
import yaml

from support import access
from support.agent import run_to_end
from support.clusters import STRATEGIC, Cluster, condition
from support.waiting import stays, wait_for
from testbed import certs


def refused(bed, *arguments, env=None):
    """The one line on stderr of a start that must fail at once."""
    began = time.monotonic()
    done = run_to_end(bed, *arguments, env=env)
    assert done.returncode == 1, (done.returncode, done.stdout, done.stderr)
    assert time.monotonic() - began < 10
    assert done.stdout == "" and done.stderr.count("\n") == 1, f"not one line: {done.stdout}{done.stderr}"
    return done.stderr


@pytest.fixture
def flags(bed, tmp_path, kubeconfig):
    """Of an agent that would start: what a test adds is what is wrong."""
    return [
        f"--kubeconfig={kubeconfig}",
        "--provider=process",
        f"--state-dir={tmp_path}/s",
        "--port=10350",
        "--health-probe-bind-address=:8181",
    ]


@pytest.fixture
def agent(agents, bed, kubeconfig, request):
    """An agent that a test starts with what is wrong. Its node is never registered by it."""
    made = []

    def make(**options):
        name = f"bad-{request.node.name.removeprefix('test_')[:40]}"
        made.append(agents.make(bed, name, **{"provider": "process", "kubeconfig": kubeconfig, **options}))
        return made[-1].start()

    yield make
    agents.end(*made)


def edited(kubeconfig, path, change):
    """A kubeconfig with something of it changed."""
    config = yaml.safe_load(kubeconfig.read_text())
    change(config["clusters"][0]["cluster"], config["users"][0]["user"], config)
    path.write_text(yaml.safe_dump(config))
    path.chmod(0o600)
    return path


# --- options ---


@pytest.mark.parametrize(
    "wrong,says",
    [
        (["--node-nam=x"], "did you mean --node-name?"),
        (["--provder", "process"], "did you mean --provider?"),
        (["--nonsense-of-all-kinds"], "see k8sgpu --help"),
        (["run"], "k8sgpu --help"),
        (["--csr-signer=nobody"], "kubelet"),
        (["--provider=docker"], "write kubernetes, process or simulated"),
        (["--port=70000"], "write a number from 1 to 65535"),
        (["--node-name=K8s_GPU"], "lower-case letters"),
        (["--node-ip=localhost"], "not an IPv4 or IPv6 address"),
        (["--register-with-taints=dedicated"], "key=value:NoSchedule"),
        (["--node-labels=plain"], "key=value"),
        (["--capacity=nvidia.com/gpu=many"], "not a quantity"),
        (["--health-probe-bind-address=8081"], ":8081"),
        (["--log-level=loud"], "debug, info or warn"),
        (["--cert-dir=/tmp/x", "--cert-secret=y"], "exclude each other"),
        (["--provider=kubernetes", "--remote-kubeconfig="], "--provider=process"),
        (["--leader-elect=maybe"], "neither true nor false"),
        (["--config=/nonexistent.yaml"], "/nonexistent.yaml"),
    ],
)
def test_wrong_options_say_what_to_write_instead(bed, wrong, says):
    line = refused(bed, *wrong)
    option = wrong[0].split("=")[0]
    assert says in line and (option in line or option.startswith("--pro")), line


def test_wrong_values_of_the_environment_and_the_file_name_their_place(bed, tmp_path):
    assert "K8SGPU_PORT" in refused(bed, env={"K8SGPU_PORT": "all"})
    assert "POD_IP" in refused(bed, env={"POD_IP": "nowhere"})
    file = tmp_path / "config.yaml"
    file.write_text("port: 10250\nprovidr: process\n")
    line = refused(bed, f"--config={file}")
    assert str(file) in line and "providr" in line


def test_help_and_version_are_for_people(bed):
    shown = run_to_end(bed, "--help")
    assert shown.returncode == 0 and shown.stderr == ""
    for option in (
        "--node-name",
        "--remote-kubeconfig",
        "--k8sgpu-tenant-name",
        "--csr-signer",
        "--leader-elect",
        "--zap-devel",
        "--provider",
    ):
        assert option in shown.stdout
    for argument in ("version", "--version"):
        shown = run_to_end(bed, argument)
        assert shown.returncode == 0 and re.match(r"^k8sgpu [0-9]+\.[0-9]+\.[0-9]+\S*\n$", shown.stdout)


# --- kubeconfigs ---


def test_a_missing_remote_kubeconfig_stops_the_start(bed, kubeconfig):
    line = refused(bed, f"--kubeconfig={kubeconfig}", "--remote-kubeconfig=/nonexistent/client.kubeconfig")
    assert "/nonexistent/client.kubeconfig" in line and "--provider=process" in line


def test_a_remote_kubeconfig_that_others_can_write_is_refused(bed, kubeconfig, tmp_path):
    path = tmp_path / "client.kubeconfig"
    for mode in (0o660, 0o602):
        path.write_text(kubeconfig.read_text())
        path.chmod(mode)
        line = refused(bed, f"--kubeconfig={kubeconfig}", f"--remote-kubeconfig={path}")
        assert str(path) in line and "chmod" in line, line


@pytest.mark.parametrize(
    "text,says",
    [
        ("", "kubeconfig"),
        ("{", "kubeconfig"),
        ("just words", "not a kubeconfig"),
        ("apiVersion: v1\nkind: Config\nclusters: {}\n", "clusters"),
        ("apiVersion: v1\nkind: Config\ncurrent-context: gone\n", "gone"),
        ("apiVersion: v1\nkind: Pod\n", "not a kubeconfig"),
    ],
)
def test_a_broken_kubeconfig_stops_the_start_and_is_named(bed, tmp_path, text, says):
    path = tmp_path / "broken.kubeconfig"
    path.write_text(text)
    line = refused(bed, f"--kubeconfig={path}", "--provider=process", f"--state-dir={tmp_path}")
    assert str(path) in line and says in line, line
    path.chmod(0o600)
    line = refused(bed, f"--kubeconfig={path}", f"--remote-kubeconfig={path}")
    assert str(path) in line and says in line, line


def test_a_kubeconfig_with_a_certificate_that_is_none_stops_the_start(bed, kubeconfig, tmp_path, flags):
    wrong = base64.b64encode(b"no certificate").decode()
    path = edited(kubeconfig, tmp_path / "k", lambda cluster, user, _: cluster.update({"certificate-authority-data": wrong}))
    line = refused(bed, *flags[1:], f"--kubeconfig={path}")
    assert "certificate-authority" in line, line


# --- ports ---


def test_a_port_in_use_stops_the_start(agents, bed, kubeconfig, tmp_path):
    first = agents.make(bed, "bad-port", provider="process", kubeconfig=kubeconfig).start()
    first.wait_ready()
    common = [f"--kubeconfig={kubeconfig}", "--provider=process", f"--state-dir={tmp_path}"]
    done = run_to_end(bed, *common, "--health-probe-bind-address=:8081")
    assert done.returncode == 1 and "--health-probe-bind-address" in done.stderr and "8081" in done.stderr, done.stderr
    done = run_to_end(bed, *common, "--health-probe-bind-address=:8181")
    last = done.stderr.splitlines()[-2:]
    assert done.returncode == 1 and any("--port" in line and "10250" in line for line in last), done.stderr
    assert first.running() and first.health("/readyz")[0] == 200, "the one that was there is not disturbed"
    agents.end(first)


# --- the cluster ---


@pytest.mark.needs_namespaces
def test_an_unreachable_api_server_is_waited_for(agent, bed):
    cluster = Cluster(bed.local, "default")
    bed.link("cut", "local")
    try:
        one = agent()
        wait_for(
            lambda: "waiting for the API server" in one.log() and bed.local.server in one.log(), 15, "the log to say what it waits for"
        )
        status, text = one.health("/readyz")
        assert status == 503 and bed.local.server in text, text
        assert one.health("/healthz") == (200, "ok"), "a restart would not help"
        stays(one.running, 2, "the agent waits")
    finally:
        bed.link("restore", "local")
    wait_for(lambda: one.health("/readyz")[0] == 200, 40, "readiness once the API server can be reached")
    assert condition(cluster.get("/api/v1/nodes/k8s.gpu"), "Ready")["status"] == "True"
    assert one.log().count("waiting for the API server") < 10, "it repeats itself"


def test_a_connection_that_is_refused_is_waited_for_and_can_be_stopped(agent, kubeconfig, tmp_path):
    def change(cluster, user, _):
        cluster["server"] = re.sub(":[0-9]+$", ":1", cluster["server"])

    one = agent(kubeconfig=edited(kubeconfig, tmp_path / "k", change))
    wait_for(lambda: "refused" in one.log().lower(), 10, "the log to say that the connection is refused")
    assert one.health("/readyz")[0] == 503
    began = time.monotonic()
    assert one.stop() == 0
    assert time.monotonic() - began < 3


def test_a_name_that_does_not_resolve_is_said(agent, kubeconfig, tmp_path):
    one = agent(
        kubeconfig=edited(kubeconfig, tmp_path / "k", lambda cluster, *_: cluster.update(server="https://api.cluster.invalid:6443"))
    )
    wait_for(
        lambda: "api.cluster.invalid" in one.health("/readyz")[1] and "resolving api.cluster.invalid" in one.log(),
        25,
        "the log to name the host",
    )


def test_a_wrong_authority_is_said(agent, kubeconfig, tmp_path):
    other = certs.Authority(tmp_path / "pki", "other", "other-ca")
    wrong = base64.b64encode(other.certificate.read_bytes()).decode()
    one = agent(kubeconfig=edited(kubeconfig, tmp_path / "k", lambda cluster, *_: cluster.update({"certificate-authority-data": wrong})))

    def said():
        text = one.health("/readyz")[1]
        return "certificate" in text and ("unable to get local issuer" in text or "verif" in text)

    wait_for(said, 10, lambda: f"the wrong authority to be said: {one.health('/readyz')}; {one.tail()}")
    assert "certificate" in one.log()


def test_an_expired_or_unknown_token_is_said(agent, kubeconfig, tmp_path):
    one = agent(kubeconfig=edited(kubeconfig, tmp_path / "k", lambda _, user, __: user.update(token="eyJhbGciOiJSUzI1NiJ9.e30.c2ln")))
    wait_for(lambda: "Unauthorized" in one.log(), 10, "the log to say 401")
    line = [line for line in one.log().splitlines() if "Unauthorized" in line][0]
    assert "waiting for the API server" in line and "expired" in line and str(tmp_path / "k") in line, line
    assert one.health("/readyz")[0] == 503


@pytest.mark.parametrize(
    "verb,resource",
    [
        ("create", "nodes"),
        ("patch", "nodes/status"),
        ("list", "pods"),
        ("patch", "pods/status"),
        ("create", "leases"),
        ("get", "namespaces"),
    ],
)
def test_a_missing_permission_is_named_with_verb_and_resource(agents, bed, verb, resource, work_folder):
    """A ServiceAccount with everything that is shipped but one thing."""
    cluster = Cluster(bed.local, "default")
    name = f"lacks-{verb}-{resource.replace('/', '-')}"
    objects = access.manifest("rbac.yaml")
    for object_ in objects:
        object_["metadata"]["name"] = object_["metadata"]["name"].replace("k8sgpu", name)
        if "roleRef" in object_ and object_["roleRef"]["name"].startswith("k8sgpu"):
            object_["roleRef"]["name"] = object_["roleRef"]["name"].replace("k8sgpu", name)
        for subject in object_.get("subjects", []):
            subject["name"] = name
        for rule in object_.get("rules", []):
            if resource in rule["resources"]:
                rule["verbs"] = [entry for entry in rule["verbs"] if entry != verb]
        object_["rules"] = [rule for rule in object_.get("rules", []) if rule["verbs"]]
        if object_["kind"] not in ("Role", "ClusterRole"):
            del object_["rules"]
    cluster.apply(*objects)
    kubeconfig = bed.local.service_account_kubeconfig("kube-system", name)
    one = agents.make(bed, f"bad-{name}", provider="process", kubeconfig=kubeconfig).start()
    try:
        if resource == "pods/status":
            cluster.create_pod(
                {
                    "metadata": {"name": "unheard"},
                    "spec": {"nodeName": "k8s.gpu", "containers": [{"name": "c", "image": "i", "command": ["true"]}]},
                }
            )
        if resource == "nodes/status":
            wait_for(lambda: cluster.get("/api/v1/nodes/k8s.gpu"), 10, "the node")
            stale = {"type": "NetworkUnavailable", "status": "True", "reason": "Stale", "message": "written by somebody else"}
            cluster.patch("/api/v1/nodes/k8s.gpu/status", {"status": {"conditions": [stale]}}, STRATEGIC)
        words = f'cannot {verb} resource "{resource}"'
        wait_for(lambda: words in one.log(), 20, lambda: f"the log to say {words}; it says {one.tail()}")
        line = [line for line in one.log().splitlines() if words in line][0]
        assert f"system:serviceaccount:kube-system:{name}" in line
        assert one.running()
        if resource != "pods/status":
            status, text = one.health("/readyz")
            assert status == 503
    finally:
        cluster.delete("/api/v1/namespaces/default/pods/unheard", 0)
        agents.end(one)
        for object_ in objects:
            cluster.kubectl(
                "delete", object_["kind"].lower(), object_["metadata"]["name"], "-n", object_["metadata"].get("namespace", "default")
            )


# --- the remote cluster ---


@pytest.mark.needs_remote
def test_a_remote_cluster_that_lacks_permissions_is_said(agent, bed, tmp_path):
    """The tenant's kubeconfig is that of a ServiceAccount without any Role."""
    remote = Cluster(bed.remote, "default")
    remote.create_namespace(access.TENANT)
    one = agent(provider=None, remote_kubeconfig=bed.remote.service_account_kubeconfig("default", "default"), capacity="cpu=1,memory=1Gi")
    wait_for(lambda: 'cannot list resource "pods"' in one.log(), 15, lambda: f"the log to name what is missing: {one.tail()}")
    assert "gpu" in [line for line in one.log().splitlines() if 'cannot list resource "pods"' in line][0]
    assert one.health("/readyz")[0] == 503
    cluster = Cluster(bed.local, "default")
    wait_for(
        lambda: condition(cluster.get("/api/v1/nodes/k8s.gpu"), "RemoteReachable").get("status") == "False",
        10,
        "the Node to say that its provider cannot be used",
    )


@pytest.mark.needs_remote
def test_an_unreachable_remote_cluster_does_not_stop_the_start(agent, bed, remote_kubeconfig, tmp_path):
    def change(cluster, user, _):
        cluster["server"] = cluster["server"].replace(":6443", ":6444")

    one = agent(provider=None, remote_kubeconfig=edited(remote_kubeconfig, tmp_path / "k", change), capacity="cpu=1,memory=1Gi")
    cluster = Cluster(bed.local, "default")

    def said():
        now = condition(cluster.get("/api/v1/nodes/k8s.gpu"), "RemoteReachable")
        return now.get("status") == "False" and ":6444" in now["message"]

    wait_for(said, 40, "the Node to say that its provider cannot be reached, and where")
    assert one.health("/healthz")[0] == 200 and one.health("/readyz")[0] == 503
