"""Proof of the test bed itself: it comes up, breaks on demand, and leaves nothing behind. Run by pytest; needs root."""

import base64
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from testbed import AppServingSigner, Testbed, TestbedError, network, remote_node, remote_unavailable_reason, state  # noqa: E402

TOOL = Path(__file__).resolve().parents[2] / "tools" / "testbed"

needs_root = pytest.mark.skipif(network.unavailable_reason() is not None, reason=f"network namespaces: {network.unavailable_reason()}")
needs_remote = pytest.mark.skipif(remote_unavailable_reason() is not None, reason=f"remote cluster: {remote_unavailable_reason()}")


def leftovers(name, index):
    """Everything on this machine that still belongs to a test bed."""
    found = [str(path) for path in Path("/run/netns").glob(f"{name}-*")] if Path("/run/netns").exists() else []
    found += [str(path) for path in Path("/sys/fs/cgroup").glob(f"**/k8sgpu-testbed-{name}")]
    found += [line for line in Path("/proc/mounts").read_text().splitlines() if f"/{name}/" in line]
    links = json.loads(subprocess.run(["ip", "-j", "link"], capture_output=True, text=True, check=True).stdout)
    found += [
        link["ifname"]
        for link in links
        if link["ifname"].startswith(f"kgtb{index}") and not link["ifname"][len(f"kgtb{index}") :].isdigit()
    ]
    folder = str(state.base_folder() / name)
    if Path(folder).exists():
        found.append(folder)
    for command in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            text = command.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if f"{folder}/" in text or f"netns/{name}-" in text:
            found.append(f"{command.parent.name}: {text}")
    return found


@pytest.fixture
def name():
    chosen = f"t{uuid.uuid4().hex[:8]}"
    yield chosen
    Testbed.down(chosen)


@pytest.fixture(scope="module")
def bed():
    chosen = f"t{uuid.uuid4().hex[:8]}"
    yield Testbed.up(chosen, remote=False)
    Testbed.down(chosen)


def until(condition, seconds=20):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)


POD = """
apiVersion: v1
kind: Pod
metadata: {name: hello}
spec:
  runtimeClassName: nvidia
  terminationGracePeriodSeconds: 0
  containers:
  - {name: c, image: "k8sgpu.test/busybox:1", command: [sh, -c, "echo from the remote node; sleep 1000"], resources: {limits: {nvidia.com/gpu: 1}}}
"""


@needs_remote
@pytest.mark.parametrize("minor", ["1.36", "1.30"])
def test_remote_cluster_runs_pods_and_going_down_leaves_nothing(name, minor):
    bed = Testbed.up(name, minor=minor)
    bed.kubectl("apply", "-f", "-", cluster="remote", input=POD)
    bed.kubectl("wait", "--for=condition=Ready", "pod/hello", "--timeout=60s", cluster="remote")
    assert bed.kubectl("logs", "hello", cluster="remote") == "from the remote node\n"
    done = subprocess.run(
        [bed.folder / "bin" / "kubectl", f"--kubeconfig={bed.remote.kubeconfig}", "exec", "hello", "--", "sh", "-c", "exit 3"]
    )
    assert done.returncode == 3
    version = json.loads(bed.kubectl("version", "-o", "json"))["serverVersion"]
    assert f"{version['major']}.{version['minor']}" == minor
    assert leftovers(name, bed.index) != []
    assert Testbed.down(name)
    assert leftovers(name, bed.index) == []


@needs_remote
def test_creation_killed_at_any_moment_can_be_removed(name):
    for delay in (0.6, 1.5, 4.0):
        creator = subprocess.Popen([TOOL, "up", "--remote", "--name", name], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        until(lambda: "index" in state.load(name))
        index = state.load(name)["index"]
        time.sleep(delay)
        creator.kill()
        creator.wait()
        assert Testbed.down(name)
        assert leftovers(name, index) == []


@needs_remote
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_creation_removes_itself(name, number):
    creator = subprocess.Popen([TOOL, "up", "--remote", "--name", name], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    until(lambda: "index" in state.load(name))
    index = state.load(name)["index"]
    time.sleep(2)
    creator.send_signal(number)
    assert creator.wait(timeout=60) != 0
    assert leftovers(name, index) == []


@needs_remote
def test_failed_creation_says_why_and_removes_itself(name, monkeypatch):
    monkeypatch.setattr(remote_node, "_CONTAINERD", remote_node._CONTAINERD + "\nnonsense = [\n")
    with pytest.raises(TestbedError) as failed:
        Testbed.up(name)
    assert "containerd" in failed.value.problem
    assert "toml" in failed.value.explain() or "nonsense" in failed.value.explain()
    assert leftovers(name, 0) == []
    Path(failed.value.log).unlink()


@needs_root
def test_second_test_bed_of_the_same_name_is_refused(bed):
    with pytest.raises(TestbedError, match="exists already"):
        Testbed.up(bed.name, remote=False)
    assert bed.local.api().get("/readyz") == "ok"


@needs_root
def test_cut_link_hides_the_agent_from_the_cluster_until_restored(bed):
    def reaches():
        return bed.run_in_agent_ns(["curl", "-sk", "--max-time", "1", f"{bed.local.server}/livez"], capture_output=True).returncode == 0

    assert reaches()
    for action in ("cut", "drop-in", "drop-out"):
        bed.link(action, "agent")
        assert not reaches(), action
        bed.link("restore", "agent")
        until(reaches)
    bed.link("slow", "agent")
    began = time.monotonic()
    bed.run_in_agent_ns(["curl", "-sk", "--max-time", "9", f"{bed.local.server}/livez?verbose"], capture_output=True)
    assert time.monotonic() - began > 0.15
    bed.link("restore", "agent")
    until(reaches)


@needs_root
def test_frozen_etcd_stalls_the_apiserver_and_thawing_heals_it(bed):
    bed.local.pause_component("etcd")
    try:
        with pytest.raises((OSError, TestbedError)):
            bed.local.api().get("/api/v1/namespaces/default", timeout=1)
    finally:
        bed.local.resume_component("etcd")
    until(lambda: bed.local.api().get("/api/v1/namespaces/default")["metadata"]["name"] == "default")


@needs_root
def test_apiserver_comes_back_on_its_address_after_a_stop(bed):
    before = bed.local.api().get("/api/v1/namespaces/default")["metadata"]["uid"]
    bed.local.stop_component("kube-apiserver")
    with pytest.raises(OSError):
        bed.local.api().get("/readyz", timeout=1)
    bed.local.start_component("kube-apiserver")
    bed.local.wait_ready()
    assert bed.local.api().get("/api/v1/namespaces/default")["metadata"]["uid"] == before


@needs_root
def test_kubeconfigs_are_for_the_user_they_name(bed):
    def who(kubeconfig):
        return bed.kubectl("auth", "whoami", "-o", "json", f"--kubeconfig={kubeconfig}")

    node = json.loads(who(bed.local.user_kubeconfig("node", "system:node:k8s.gpu", ["system:nodes"])))["status"]["userInfo"]
    assert node["username"] == "system:node:k8s.gpu" and "system:nodes" in node["groups"]
    account = json.loads(who(bed.local.service_account_kubeconfig("default", "default")))["status"]["userInfo"]
    assert account["username"] == "system:serviceaccount:default:default"


@needs_root
@pytest.mark.parametrize("mode", ["issue", "refuse", "never"])
def test_signer_answers_approved_requests_as_told(bed, mode):
    name = f"serving-{mode}"
    folder = bed.folder
    subprocess.run(
        [
            "openssl",
            "req",
            "-new",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-keyout",
            folder / "k",
            "-out",
            folder / "csr",
            "-subj",
            "/O=system:nodes/CN=system:node:k8s.gpu",
            "-addext",
            "subjectAltName=IP:10.1.2.3,DNS:k8s.gpu",
        ],
        check=True,
        capture_output=True,
    )
    request = {
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "CertificateSigningRequest",
        "metadata": {"name": name},
        "spec": {
            "request": base64.b64encode((folder / "csr").read_bytes()).decode(),
            "signerName": "beta.eks.amazonaws.com/app-serving",
            "usages": ["digital signature", "key encipherment", "server auth"],
        },
    }
    bed.local.api().call("POST", "/apis/certificates.k8s.io/v1/certificatesigningrequests", request)

    def status():
        return bed.local.api().get(f"/apis/certificates.k8s.io/v1/certificatesigningrequests/{name}")["status"]

    with AppServingSigner(bed.local, mode) as signer:
        until(lambda: name in signer.seen)
        assert status() == {}
        bed.kubectl("certificate", "approve", name)
        if mode == "issue":
            until(lambda: status().get("certificate"))
            shown = subprocess.run(
                ["openssl", "x509", "-noout", "-text"], input=base64.b64decode(status()["certificate"]), capture_output=True, check=True
            ).stdout.decode()
            assert "DNS:k8s.gpu" in shown and "IP Address:10.1.2.3" in shown and "TLS Web Server Authentication" in shown
            assert "system:node:k8s.gpu" in shown
        elif mode == "refuse":
            until(lambda: "Failed" in [condition["type"] for condition in status().get("conditions", [])])
        else:
            time.sleep(1)
            assert "certificate" not in status()
        assert signer.error is None, signer.error


def test_local_control_plane_runs_without_root_or_namespaces(name):
    environment = {**os.environ, "K8SGPU_TESTBED_DIR": f"/tmp/k8sgpu-testbed-test-{name}", "K8SGPU_CACHE": str(state.cache_folder())}
    tool = [str(TOOL)]
    subprocess.run([*tool, "up", "--no-netns", "--name", name], env=environment, check=True)
    try:
        exports = subprocess.run(
            f'eval "$({TOOL} env --name {name})" && kubectl get namespace default -o name',
            shell=True,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert exports.stdout == "namespace/default\n", exports.stderr
    finally:
        subprocess.run([*tool, "down", "--name", name], env=environment, check=True)
    assert not Path(environment["K8SGPU_TESTBED_DIR"]).exists()


def test_wrong_arguments_say_what_to_write_instead():
    for arguments, advice in (
        (["up", "--minor", "1.2"], "1.36"),
        (["up", "--name", "Bad_Name"], "lower-case"),
        (["env", "--name", "nobody"], "up --name nobody"),
        (["up", "--no-netns", "--remote"], "--no-remote"),
    ):
        done = subprocess.run([TOOL, *arguments], capture_output=True, text=True)
        assert done.returncode == 1 and advice in done.stderr, done.stderr
